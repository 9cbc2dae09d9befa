package window_test

import (
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/window"
)

func TestAllow(t *testing.T) {
	c := window.New[string](time.Minute)
	now := time.Now()
	for _, step := range []struct {
		key  string
		most int
		at   time.Duration
		want bool
		left time.Duration
	}{
		{"a", 2, 0, true, 0},
		{"a", 2, 1, true, 0},
		{"a", 2, time.Minute - 1, false, time.Millisecond},
		{"b", 2, time.Minute - 1, true, 0},
		{"a", 2, time.Minute, true, 0},
		{"a", 1, time.Minute + time.Second, false, 59 * time.Second},
		{"b", 1, 0, false, 59*time.Second - 1}, // the clock does not step back
	} {
		if left, ok := c.Allow(step.key, step.most, now.Add(step.at)); ok != step.want || left != step.left {
			t.Errorf("%+v: %v, %v", step, left, ok)
		}
	}
	c.Forget("a")
	c.Forget("nobody")
	if n, left := c.Count("a", now); n != 0 || left != time.Minute {
		t.Errorf("forgotten, and %d, %v", n, left)
	}
}

// TestEndedWindowsGo: what is held follows the windows that are not over.
func TestEndedWindowsGo(t *testing.T) {
	const live = 100
	c := window.New[int](live * time.Second)
	now := time.Now()
	for key := range 50 * live {
		now = now.Add(time.Second)
		if c.Add(key, now); c.Keys() > live {
			t.Fatalf("%d are held", c.Keys())
		}
	}
	if n, _ := c.Count(50*live-live/2, now); n != 1 {
		t.Errorf("%d of one whose window runs", n)
	}
}

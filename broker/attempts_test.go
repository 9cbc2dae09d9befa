package broker

import (
	"testing"
	"time"
)

func TestAttemptsPerMinute(t *testing.T) {
	var a attempts
	now := time.Now()
	for _, step := range []struct {
		service string
		limit   int
		at      time.Duration
		want    bool
	}{
		{"a", 2, 0, true},
		{"a", 2, 1, true},
		{"a", 2, time.Minute - 1, false},
		{"b", 2, time.Minute - 1, true},
		{"a", 0, time.Minute - 1, true},
		{"a", 2, time.Minute, true},
		{"a", 1, time.Minute + 1, false},
	} {
		if got := a.allow(step.service, step.limit, now.Add(step.at)); got != step.want {
			t.Errorf("%+v: %v", step, got)
		}
	}
}

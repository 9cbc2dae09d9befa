package hello_test

import (
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/testutil"
)

func TestLimiterVector(t *testing.T) {
	var v struct {
		Rate struct {
			Defaults struct {
				Max      int
				WindowMs int64 `json:"window_ms"`
			}
			Steps []struct {
				PID          uint32
				Count        int
				At           int64
				Expect       string
				RetryAfterMs int64 `json:"retry_after_ms"`
			}
		} `json:"hello_rate_limit"`
	}
	testutil.Vectors(t, "behaviour.json", &v)
	defaults := v.Rate.Defaults
	if ms(defaults.WindowMs) != hello.DefaultRateWindow {
		t.Errorf("the defaults are %+v", defaults)
	}
	limiter := hello.NewLimiter(defaults.Max, hello.DefaultRateWindow)
	start := time.Now()
	for _, step := range v.Rate.Steps {
		for range step.Count {
			retry, ok := limiter.Allow(step.PID, start.Add(ms(step.At)))
			if ok != (step.Expect == "ok") || retry != ms(step.RetryAfterMs) {
				t.Fatalf("%+v: got %s, %v", step, retry, ok)
			}
		}
	}
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

func TestLimiterClamps(t *testing.T) {
	limiter := hello.NewLimiter(0, 0)
	now := time.Now()
	if _, ok := limiter.Allow(1, now); !ok {
		t.Error("a limit of 0 lets one through")
	}
	if retry, ok := limiter.Allow(1, now.Add(999*time.Microsecond)); ok || retry != time.Millisecond {
		t.Errorf("got %s, %v, want at least 1 ms", retry, ok)
	}
	if _, ok := limiter.Allow(1, now.Add(time.Millisecond)); !ok {
		t.Error("a window of 0 ends after 1 ms")
	}
}

// TestLimiterClockStepsBack: a caller may have read its clock before another.
func TestLimiterClockStepsBack(t *testing.T) {
	limiter := hello.NewLimiter(1, time.Second)
	now := time.Now()
	limiter.Allow(1, now)
	if _, ok := limiter.Allow(2, now.Add(-time.Hour)); !ok {
		t.Error("a first Hello was refused")
	}
	if retry, ok := limiter.Allow(2, now); ok || retry != time.Second {
		t.Errorf("got %s, %v, want the whole window", retry, ok)
	}
}

// TestLimiterCrowd: more processes than the table holds are all served once,
// and the newest are still limited.
func TestLimiterCrowd(t *testing.T) {
	const crowd = 20_000
	limiter := hello.NewLimiter(1, time.Hour)
	now := time.Now()
	for pid := uint32(1); pid <= crowd; pid++ {
		if _, ok := limiter.Allow(pid, now); !ok {
			t.Fatalf("process %d was refused its first Hello", pid)
		}
	}
	if _, ok := limiter.Allow(crowd, now); ok {
		t.Error("the newest process was forgotten")
	}
	if _, ok := limiter.Allow(1, now); !ok {
		t.Error("the oldest process is still remembered")
	}
}

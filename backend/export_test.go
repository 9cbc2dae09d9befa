package backend

import (
	"errors"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/watch"
)

// RefuseWatches has every watch refused, for one test.
func RefuseWatches(t testing.TB) {
	newWatch = func() (*watch.Watch, error) { return nil, errors.ErrUnsupported }
	t.Cleanup(func() { newWatch = watch.New })
}

// SetReplyTimeout changes for one test how long early bytes are waited for.
func SetReplyTimeout(t testing.TB, d time.Duration) {
	before := replyTimeout
	replyTimeout = d
	t.Cleanup(func() { replyTimeout = before })
}

// SetProbeWait changes for one test how long the beginning of a probe is waited for.
func SetProbeWait(t testing.TB, d time.Duration) {
	before := probeWait
	probeWait = d
	t.Cleanup(func() { probeWait = before })
}

package stamp

import (
	"testing"
	"time"
)

// TestSettledByTheClockOfTheFileSystem: a time without a fraction may be one of a file system
// that keeps none, where two seconds of changes carry it.
func TestSettledByTheClockOfTheFileSystem(t *testing.T) {
	whole := time.Unix(1e9, 0)
	for _, c := range []struct {
		changed time.Time
		after   time.Duration
		want    bool
	}{
		{whole.Add(time.Nanosecond), Racy, false},
		{whole.Add(time.Nanosecond), Racy + time.Nanosecond, true},
		{whole, time.Second, false},
		{whole, 2 * time.Second, false},
		{whole, coarse + time.Nanosecond, true},
	} {
		at := c.changed.Add(c.after)
		s := Stamp{ino: 1, changed: c.changed.UnixNano(), edited: whole.Add(-time.Hour).UnixNano()}
		if Settled(c.changed, at) != c.want || s.Settled(at) != c.want {
			t.Errorf("%v after %v: not %v", c.after, c.changed, c.want)
		}
	}
}

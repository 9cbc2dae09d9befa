package backend

import (
	"testing"
	"time"
)

// SetProbeWait changes for one test how long the beginning of a probe is waited for.
func SetProbeWait(t testing.TB, d time.Duration) {
	before := probeWait
	probeWait = d
	t.Cleanup(func() { probeWait = before })
}

//go:build unix

package cli

import "testing"

func TestHealthz(t *testing.T) {
	p := newPlace(t)
	run(t, "healthz").want(t, exitFailed, "", "no broker answers")
	p.startBroker(t)
	run(t, "healthz").want(t, 0, "ok\n", "")
}

//go:build unix

package cli

import (
	"testing"

	"github.com/seed-7265657e/usher/internal/wire"
)

func TestReadyz(t *testing.T) {
	newPlace(t).startBroker(t)
	run(t, "readyz").want(t, 0, "ready\n", "")
}

func TestReadyzNotReady(t *testing.T) {
	newPlace(t).startFake(t, reply(&wire.AdminReply{Body: "not ready\n", ExitCode: 1}))
	run(t, "readyz").want(t, 1, "not ready\n", "")
}

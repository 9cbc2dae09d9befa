//go:build unix && !linux && !darwin && !freebsd

package peer

import (
	"errors"
	"fmt"
)

// executableOf answers errors.ErrUnsupported: OpenBSD tells nobody what another process
// runs, and NetBSD what it was called when it was started, whatever is there by now.
func executableOf(int) (string, error) {
	return "", fmt.Errorf("what a process runs: %w on this system", errors.ErrUnsupported)
}

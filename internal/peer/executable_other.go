//go:build unix && !linux && !darwin && !freebsd && !netbsd

package peer

import (
	"errors"
	"fmt"
)

// executableOf answers errors.ErrUnsupported: OpenBSD tells nobody what another process
// runs.
func executableOf(int) (string, error) {
	return "", fmt.Errorf("what a process runs: %w on this system", errors.ErrUnsupported)
}

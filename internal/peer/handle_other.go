//go:build unix && !linux && !darwin && !freebsd && !openbsd && !netbsd && !dragonfly

package peer

import (
	"errors"
	"fmt"
)

const handles = "none"

func openHandle(int) (handle, error) {
	return nil, fmt.Errorf("hold on to a process: %w on this system", errors.ErrUnsupported)
}

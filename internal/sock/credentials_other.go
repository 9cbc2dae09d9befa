//go:build !linux && !darwin && !freebsd && !openbsd && !netbsd && !windows

package sock

import (
	"errors"
	"fmt"
)

func peerOf(int) (Credentials, error) {
	return Credentials{}, fmt.Errorf("identify the peer process: %w on this system", errors.ErrUnsupported)
}

//go:build unix && (!linux || usher_portable)

package peer

import (
	"errors"

	"github.com/seed-7265657e/usher/internal/sock"
)

func resumeHandle(*sock.FD) (int, handle, error) { return 0, nil, errors.ErrUnsupported }

//go:build !unix && !windows

package claim

import (
	"errors"
	"fmt"

	"github.com/seed-7265657e/usher/internal/sock"
)

const eventMeans = "event"

var system = kernel{
	eventfd: func() (*sock.FD, error) { return nil, errors.ErrUnsupported },
	pipe:    func() (*sock.FD, error) { return nil, errors.ErrUnsupported },
}

// Receive answers ErrForeign: no claim can arrive on this system.
func Receive(fd *sock.FD) (*Claim, error) {
	fd.Close()
	return nil, fmt.Errorf("%w: %w", ErrForeign, errors.ErrUnsupported)
}

func take(*sock.FD) (bool, error) { return false, errors.ErrUnsupported }

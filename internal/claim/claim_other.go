//go:build !unix

package claim

import (
	"errors"
	"fmt"
)

var system = kernel{
	eventfd: func() (int, error) { return -1, errors.ErrUnsupported },
	pipe:    func() (int, error) { return -1, errors.ErrUnsupported },
}

// Receive answers ErrForeign: no claim can arrive on this system.
func Receive(int) (*Claim, error) {
	return nil, fmt.Errorf("%w: %w", ErrForeign, errors.ErrUnsupported)
}

func take(int) (bool, error) { return false, errors.ErrUnsupported }

func (c *Claim) closeFD() {} // no claim can exist on this system

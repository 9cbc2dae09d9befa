//go:build !unix && !windows

package sock

import (
	"errors"
	"syscall"
)

// Inherited answers errors.ErrUnsupported: descriptors are not inherited on this system.
func Inherited(string) (*FD, error) { return nil, errors.ErrUnsupported }

// Duplicate answers errors.ErrUnsupported.
func Duplicate(syscall.Conn) (*FD, error) { return nil, errors.ErrUnsupported }

// DuplicateOf answers errors.ErrUnsupported.
func DuplicateOf(Lender) (*FD, error) { return nil, errors.ErrUnsupported }

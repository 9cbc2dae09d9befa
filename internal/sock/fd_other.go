//go:build !unix

package sock

import "errors"

// Inherited answers errors.ErrUnsupported: descriptors are not inherited on this system.
func Inherited(string) (*FD, error) { return nil, errors.ErrUnsupported }

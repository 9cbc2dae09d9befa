//go:build !linux

package launch

import "errors"

// writePID is not called on this system, where nothing is held.
func writePID(int, string) error { return errors.ErrUnsupported }

//go:build !linux

package watch

import "errors"

// Watch watches nothing on this system.
type Watch struct{}

// New answers errors.ErrUnsupported.
func New() (*Watch, error) { return nil, errors.ErrUnsupported }

// Add answers errors.ErrUnsupported.
func (w *Watch) Add(...string) error { return errors.ErrUnsupported }

// FD is no descriptor.
func (w *Watch) FD() int { return -1 }

// Changed returns true: nothing is known.
func (w *Watch) Changed() bool { return true }

// Close does nothing.
func (w *Watch) Close() {}

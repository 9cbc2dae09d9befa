//go:build !linux || usher_portable

package watch

import (
	"context"
	"errors"

	"github.com/seed-7265657e/usher/internal/sock"
)

// Watch watches nothing on this system.
type Watch struct{}

// New answers errors.ErrUnsupported.
func New() (*Watch, error) { return nil, errors.ErrUnsupported }

// Add answers errors.ErrUnsupported.
func (w *Watch) Add(...string) error { return errors.ErrUnsupported }

// AddContent answers errors.ErrUnsupported.
func (w *Watch) AddContent(string) error { return errors.ErrUnsupported }

// RemoveContent does nothing.
func (w *Watch) RemoveContent(string) {}

// Descriptor is nil.
func (w *Watch) Descriptor() *sock.FD { return nil }

// AddName answers errors.ErrUnsupported.
func (w *Watch) AddName(string) error { return errors.ErrUnsupported }

// Changed returns true: nothing is known.
func (w *Watch) Changed() bool { return true }

// Close does nothing.
func (w *Watch) Close() {}

// Waiter waits for nothing on this system.
type Waiter struct{ Watch }

// NewWaiter answers errors.ErrUnsupported.
func NewWaiter() (*Waiter, error) { return nil, errors.ErrUnsupported }

// Wait answers errors.ErrUnsupported.
func (w *Waiter) Wait(context.Context) error { return errors.ErrUnsupported }

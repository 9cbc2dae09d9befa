//go:build !linux || usher_portable

package watch

import (
	"context"
	"errors"
	"time"

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

// Waiter is what NewFollower makes.
type Waiter struct{}

// NewWaiter answers errors.ErrUnsupported.
func NewWaiter() (*Waiter, error) { return nil, errors.ErrUnsupported }

// followEvery is how often a follower looks where nothing tells.
const followEvery = time.Second

// NewFollower makes a Waiter for who looks himself after each Wait: it comes back every
// second, whatever has happened.
func NewFollower() (*Waiter, error) { return new(Waiter), nil }

// Add is nil: all is looked at.
func (w *Waiter) Add(...string) error { return nil }

// AddName is nil: all is looked at.
func (w *Waiter) AddName(string) error { return nil }

// Wait returns nil after a second, or ctx's error.
func (w *Waiter) Wait(ctx context.Context) error {
	timer := time.NewTimer(followEvery)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close does nothing.
func (w *Waiter) Close() {}

// Lacks names what Linux has for this package and this system has not, for people.
func Lacks() []string { return []string{"watches on files (they are looked at instead)"} }

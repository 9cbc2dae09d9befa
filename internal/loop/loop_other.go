//go:build !linux

// Package loop waits for many descriptors on one goroutine. It needs epoll; on
// other systems New answers errors.ErrUnsupported.
package loop

import (
	"errors"
	"fmt"
	"time"

	"github.com/seed-7265657e/usher/internal/sock"
)

// Handler is called when its descriptor has something to read, or has ended.
type Handler func()

// Loop can't be made on this system.
type Loop struct{}

// New answers errors.ErrUnsupported.
func New(func(time.Time) time.Time, func()) (*Loop, error) {
	return nil, fmt.Errorf("event loop: %w on this system", errors.ErrUnsupported)
}

// Add answers errors.ErrUnsupported.
func (*Loop) Add(sock.Lender, Handler) error { return errors.ErrUnsupported }

// Remove does nothing.
func (*Loop) Remove(sock.Lender) {}

// Post returns false.
func (*Loop) Post(func()) bool { return false }

// Stop does nothing.
func (*Loop) Stop() {}

// WakeAt does nothing.
func (*Loop) WakeAt(time.Time) {}

// Run answers errors.ErrUnsupported.
func (*Loop) Run() error { return errors.ErrUnsupported }

// Close does nothing.
func (*Loop) Close() {}

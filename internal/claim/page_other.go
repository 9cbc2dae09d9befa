//go:build !linux || usher_portable

package claim

import (
	"errors"
	"fmt"

	"github.com/seed-7265657e/usher/internal/sock"
)

// NewPage answers ErrUnavailable: claims are descriptors on this system.
func NewPage() (*Page, *sock.FD, error) {
	return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, errors.ErrUnsupported)
}

// ReceivePage answers ErrForeign: no page can arrive on this system.
func ReceivePage(page *sock.FD) (*Page, error) {
	page.Close()
	return nil, fmt.Errorf("%w: %w", ErrForeign, errors.ErrUnsupported)
}

// ResumePage answers ErrForeign: there is no page to go on with on this system.
func ResumePage(fd *sock.FD, _ uint64) (*Page, error) { return ReceivePage(fd) }

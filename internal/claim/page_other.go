//go:build !linux

package claim

import (
	"errors"
	"fmt"
)

// NewPage answers ErrUnavailable: claims are descriptors on this system.
func NewPage() (*Page, int, error) {
	return nil, -1, fmt.Errorf("%w: %w", ErrUnavailable, errors.ErrUnsupported)
}

// ReceivePage answers ErrForeign: no page can arrive on this system.
func ReceivePage(int) (*Page, error) {
	return nil, fmt.Errorf("%w: %w", ErrForeign, errors.ErrUnsupported)
}

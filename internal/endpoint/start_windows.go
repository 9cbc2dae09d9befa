package endpoint

import (
	"context"
	"errors"
	"fmt"
)

// StartLock can't be had on this system yet.
type StartLock struct{}

// LockStart answers errors.ErrUnsupported.
func LockStart(_ context.Context, path string) (*StartLock, error) {
	return nil, fmt.Errorf("start a broker at %s: %w", path, errors.ErrUnsupported)
}

// Unlock does nothing.
func (*StartLock) Unlock() error { return nil }

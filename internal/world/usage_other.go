//go:build !linux

package world

import (
	"errors"
	"time"
)

// CPUTime is for Linux.
func CPUTime(int) (time.Duration, error) { return 0, errors.ErrUnsupported }

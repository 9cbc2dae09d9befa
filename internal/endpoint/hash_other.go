//go:build !linux && !darwin && !windows

package endpoint

import (
	"errors"
	"fmt"
	"runtime"
)

func userHashInput() (string, error) {
	return "", fmt.Errorf("socket names are not defined on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

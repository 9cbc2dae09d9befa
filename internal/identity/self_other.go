//go:build !linux && !darwin && !windows

package identity

import (
	"errors"
	"fmt"
	"runtime"
)

func readBootID() (string, error) {
	return "", fmt.Errorf("boot id is not defined on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func ownImageFile(path string) string { return path }

//go:build !linux && !darwin && !windows && !freebsd && !openbsd && !netbsd && !dragonfly

package identity

import (
	"errors"
	"fmt"
)

func readBootID() (string, error) {
	return "", fmt.Errorf("boot id is not defined on this system: %w", errors.ErrUnsupported)
}

func ownImageFile(path string) string { return path }

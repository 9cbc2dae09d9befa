//go:build !unix && !windows

package endpoint

import (
	"errors"
	"fmt"
)

func userHashInput() (string, error) {
	return "", fmt.Errorf("socket names are not defined on this system: %w", errors.ErrUnsupported)
}

//go:build !unix && !windows

package launch

import (
	"errors"
	"fmt"
)

func execute(string, []string, []string, Connection, Place) (int, error) {
	return 0, fmt.Errorf("become another program: %w on this system", errors.ErrUnsupported)
}

//go:build !unix

package launch

import (
	"errors"
	"fmt"
	"syscall"
)

func execute(string, []string, []string, syscall.Conn, Place) error {
	return fmt.Errorf("become another program: %w on this system", errors.ErrUnsupported)
}

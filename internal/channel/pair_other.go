//go:build !unix

package channel

import (
	"errors"
	"fmt"
)

// Pair answers errors.ErrUnsupported: backends on this system are reached
// through their own pipes.
func Pair() (near *Conn, far int, err error) {
	return nil, -1, fmt.Errorf("make a channel: %w on this system", errors.ErrUnsupported)
}

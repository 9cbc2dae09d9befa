//go:build unix

package sock

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// Inherited owns the descriptor that this process was started with under number, and
// keeps its own children from inheriting it. The error says that there is none.
func Inherited(number string) (*FD, error) {
	n, err := strconv.Atoi(number)
	if err != nil {
		return nil, fmt.Errorf("descriptor %q: %w", number, err)
	}
	if _, err := unix.FcntlInt(uintptr(n), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", n, err)
	}
	return Own(n), nil
}

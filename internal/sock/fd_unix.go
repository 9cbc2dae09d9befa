//go:build unix

package sock

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

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

// Duplicate returns another descriptor of what c has open, for another process to get; the
// caller owns it.
func Duplicate(c syscall.Conn) (dup *FD, err error) {
	err = withFD(c, func(fd int) (err error) {
		dup, err = duplicate(fd)
		return err
	})
	return dup, err
}

// DuplicateOf is Duplicate of what is lent.
func DuplicateOf(l Lender) (*FD, error) {
	fd, ok := l.borrow()
	if !ok {
		return nil, os.ErrClosed
	}
	defer l.giveBack()
	return duplicate(fd)
}

func duplicate(fd int) (*FD, error) {
	n, err := duplicateNumber(fd)
	if err != nil {
		return nil, err
	}
	return Own(n), nil
}

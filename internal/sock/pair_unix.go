//go:build unix

package sock

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Pair makes a channel: the near end, and the far end to be sent or inherited. Both are
// non-blocking and close-on-exec, and both are the caller's. Where the system has no SOCK_SEQPACKET the error wraps
// errors.ErrUnsupported: backends are reached through their own pipes there.
func Pair() (near *Channel, far *FD, err error) {
	fds, err := socketpair(unix.SOCK_SEQPACKET)
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ESOCKTNOSUPPORT) || errors.Is(err, unix.EPROTOTYPE) {
		err = fmt.Errorf("%w on this system: %w", errors.ErrUnsupported, err)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("make a channel: %w", err)
	}
	return NewChannel(Own(fds[0])), Own(fds[1]), nil
}

func socketpair(kind int) ([2]int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := unix.Socketpair(unix.AF_UNIX, kind, 0)
	if err != nil {
		return fds, err
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	for _, fd := range fds {
		if err := unix.SetNonblock(fd, true); err != nil {
			_ = unix.Close(fds[0])
			_ = unix.Close(fds[1])
			return fds, err
		}
	}
	return fds, nil
}

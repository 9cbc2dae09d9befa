//go:build unix

package channel

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Pair makes a channel: the near end as a Conn, the far end as a bare
// descriptor to be sent or inherited. Both are non-blocking and close-on-exec,
// and both are the caller's. It uses a stream pair where the system has no
// SOCK_SEQPACKET.
func Pair() (near *Conn, far int, err error) { return pair(socketpair) }

// pair takes the system call as an argument, so that a system without
// SOCK_SEQPACKET can be tried anywhere.
func pair(socketpair func(sotype int) ([2]int, error)) (*Conn, int, error) {
	kind := Seqpacket
	fds, err := socketpair(unix.SOCK_SEQPACKET)
	if noSeqpacket(err) {
		kind = Stream
		fds, err = socketpair(unix.SOCK_STREAM)
	}
	if err != nil {
		return nil, -1, fmt.Errorf("make a channel: %w", err)
	}
	return New(fds[0], kind), fds[1], nil
}

func noSeqpacket(err error) bool {
	return errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ESOCKTNOSUPPORT) || errors.Is(err, unix.EPROTOTYPE)
}

func socketpair(sotype int) ([2]int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := unix.Socketpair(unix.AF_UNIX, sotype, 0)
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

//go:build unix

package sock

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Pair makes a channel of this system's kind, ChannelKind: the near end, and the far end to
// be sent or inherited. Both are non-blocking and close-on-exec, and both are the caller's.
func Pair() (near *Channel, far *FD, err error) { return pairOf(channelType) }

func pairOf(sotype int) (near *Channel, far *FD, err error) {
	fds, err := socketpair(sotype)
	if err != nil {
		return nil, nil, fmt.Errorf("make a channel: %w", err)
	}
	if sotype == unix.SOCK_STREAM {
		for _, fd := range fds {
			widen(fd)
		}
	}
	return NewChannel(Own(fds[0])), Own(fds[1]), nil
}

// room is what a channel over a stream holds of what nobody has read yet, in bytes: many
// of the largest messages. The default of macOS and the BSDs is half of one.
const room = 256 << 10

// widen asks for room in both of a socket's buffers. A system that grants less has more
// messages go in parts.
func widen(fd int) {
	for _, buffer := range []int{unix.SO_SNDBUF, unix.SO_RCVBUF} {
		if have, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, buffer); err == nil {
			grow(have, func(size int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, buffer, size) })
		}
	}
}

// grow asks for room, and for half of what was refused, as long as that is more than there
// is: NetBSD refuses what goes beyond its bound, which is just below room by default.
func grow(have int, ask func(size int) error) {
	for size := room; size > have && ask(size) != nil; size /= 2 {
	}
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

//go:build unix

package sock

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// StreamPair makes two ends of a stream: the near one for this process, and the far one
// to be inherited by another. Both are close-on-exec and the caller's.
func StreamPair() (near *Conn, far *os.File, err error) {
	fds, err := socketpair(unix.SOCK_STREAM)
	if err != nil {
		return nil, nil, fmt.Errorf("make a stream: %w", err)
	}
	return NewConn(Own(fds[0])), os.NewFile(uintptr(fds[1]), "far end"), nil
}

// AwaitHangup waits until the other end of c, a Unix stream, has ended both directions,
// as by closing it: then nothing that is written can arrive any more. It returns when c is
// closed, too.
func AwaitHangup(c syscall.Conn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool { return hungUp(int(fd)) }) // the poller wakes readers at a hang-up, and this one for nothing else that stays
}

// hungUp reports whether both directions of fd have ended. poll tells where it can: macOS
// tells of nothing that it is not asked for, and of a hang-up to who asks for writing, once
// that has ended too. NetBSD's poll does not tell; there, as on macOS and the other BSDs, a
// socket that has lost its peer has no peer's name.
func hungUp(fd int) bool {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	for {
		_, err := unix.Poll(fds[:], 0)
		if err == nil {
			break
		}
		if err != unix.EINTR && err != unix.EAGAIN { // which is want of memory, on macOS
			return true
		}
	}
	if fds[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0 {
		return true
	}
	_, err := peerFamily(fd)
	return err != nil
}

// AwaitReceipt waits until the other end of c, to which a descriptor was sent, says something
// or has closed, for so long at most. Who sends one and ends calls it first. It returns at once
// where the system keeps what was sent.
func AwaitReceipt(c syscall.Conn, most time.Duration) {
	if keepsSent {
		return
	}
	_ = withFD(c, func(fd int) error {
		fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for by := time.Now().Add(most); ; {
			_, err := unix.Poll(fds[:], int(max(time.Until(by), 0).Milliseconds()))
			if err != unix.EINTR {
				return err
			}
		}
	})
}

// EndOutput ends what f writes to. A socket's direction is shut down, for every holder:
// closing one descriptor of it would leave it open where standard input is the same
// socket. Anything else is closed.
func EndOutput(f *os.File) error {
	err := withFD(f, func(fd int) error { return shutdown(fd, unix.SHUT_WR) })
	if errors.Is(err, unix.ENOTSOCK) {
		return f.Close()
	}
	return err
}

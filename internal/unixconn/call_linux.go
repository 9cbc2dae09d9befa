package unixconn

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/rawsys"
)

// The calls of this file can't block (MSG_DONTWAIT), so they don't tell the
// scheduler, which would prepare for them to.

func recv(fd int, p []byte) (int, error) {
	var base unsafe.Pointer
	if len(p) > 0 {
		base = unsafe.Pointer(&p[0])
	}
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(base), uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

func send(fd int, parts [][]byte) (int, error) {
	var iov [maxParts]unix.Iovec
	n := 0
	for _, p := range parts[:min(len(parts), maxParts)] {
		if len(p) > 0 {
			iov[n].Base = &p[0]
			iov[n].SetLen(len(p))
			n++
		}
	}
	if n == 0 {
		return 0, nil
	}
	msg := unix.Msghdr{Iov: &iov[0]}
	msg.SetIovlen(n)
	for {
		sent, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch errno {
		case 0:
			return int(sent), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// Dial connects to the Unix socket at path. It never blocks: a full backlog is
// unix.EAGAIN.
func Dial(path string) (*Conn, error) {
	fd, err := rawsys.UnixSocket()
	if err != nil {
		return nil, opError("dial", err)
	}
	for {
		err = rawsys.ConnectUnix(fd, path)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		rawsys.Close(fd)
		return nil, opError("dial", os.NewSyscallError("connect", err))
	}
	return New(fd), nil
}

// Accept takes a connection from the queue of the listening socket, which it
// borrows. It never waits: unix.EAGAIN when the queue is empty.
func Accept(listener int) (*Conn, error) {
	for {
		fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case 0:
			return New(int(fd)), nil
		case unix.EINTR:
		default:
			return nil, opError("accept", errno)
		}
	}
}

// ShutdownListener has the kernel refuse whoever comes to the listening socket, which it
// borrows, from now on. What is queued can still be accepted; then Accept is unix.EINVAL.
func ShutdownListener(listener int) error { return shutdown(listener, unix.SHUT_RDWR) }

func shutdown(fd, how int) error { return rawsys.Shutdown(fd, how) }

func closeFD(fd int) { rawsys.Close(fd) }

//go:build unix && (!linux || usher_portable)

package sock

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/errno"
)

const (
	// endsWriter is false: a peer can't be kept from writing.
	endsWriter = false
	// keepsSent is false: on macOS a descriptor that its sender closes before it was
	// received can arrive dead.
	keepsSent = false
	// modeDecides: macOS' sends don't look at MSG_DONTWAIT, so that a connection from one who
	// sends them in blocking mode, as v1 does, has to leave it.
	modeDecides = true
)

func recv(fd int, p []byte) (int, error) {
	for {
		n, _, err := unix.Recvfrom(fd, p, unix.MSG_DONTWAIT)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// sendParts may send fewer parts than it is given, as the kernel may.
func sendParts(fd int, parts [][]byte) (int, error) {
	if size(parts) == 0 {
		return 0, nil
	}
	for {
		n, err := unix.SendmsgBuffers(fd, parts, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return max(n, 0), sendError(err, false)
		}
	}
}

// Dial connects to the Unix socket at path. It never blocks: a full backlog is
// unix.EAGAIN. A Conn that is dropped is closed only once CloseWhenDropped was called.
func Dial(path string) (*Conn, error) { return DialFrom("", path) }

// DialFrom is Dial from an address that the listener sees; the system may refuse that
// address, and is then asked without. A file at it stays, and is the caller's.
func DialFrom(local, path string) (*Conn, error) {
	fd, err := made(func() (int, error) { return unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0) })
	if err != nil {
		return nil, opError("dial", err)
	}
	if local != "" {
		_ = unix.Bind(fd, &unix.SockaddrUnix{Name: local})
	}
	for {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
		if err != unix.EINTR {
			break
		}
	}
	if err == unix.ECONNREFUSED && isHeld(path) {
		err = unix.EAGAIN
	}
	if err != nil {
		closeFD(fd)
		return nil, opError("dial", os.NewSyscallError("connect", err))
	}
	return newConn(fd), nil
}

// isHeld tells a socket whose backlog is full, or that does not listen yet, from one whose
// process has gone: macOS and the BSDs refuse a stream in either case. They look for the
// process before they look at the kind of the socket, so that a datagram socket is refused
// as being of the wrong kind where there is a process. What can't be told is taken for held:
// who is refused for good removes the name.
func isHeld(path string) bool {
	fd, err := made(func() (int, error) { return unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0) })
	if err != nil {
		return true
	}
	defer closeFD(fd)
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	return err != unix.ECONNREFUSED && err != unix.ENOENT
}

func accept(listener int) (*Conn, error) {
	return accepted(func() (int, error) {
		fd, _, err := unix.Accept(listener)
		return fd, err
	})
}

// accepted is accept by the call that take makes.
func accepted(take func() (int, error)) (*Conn, error) {
	for {
		fd, err := made(take)
		switch err {
		case nil:
			return newConn(fd), nil
		case unix.EINTR, unix.ECONNABORTED: // who was first in the queue has gone; the next one is asked for
		default:
			return nil, opError("accept", err)
		}
	}
}

// made makes a descriptor that is non-blocking and close-on-exec, which these systems don't
// all do at once; the fork lock keeps a child of this process from being born in between.
func made(call func() (int, error)) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := call()
	if err != nil {
		return -1, err
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		closeFD(fd)
		return -1, err
	}
	return fd, nil
}

func shutdown(fd, how int) error { return unix.Shutdown(fd, how) }

func closeFD(fd int) { _ = unix.Close(fd) }

func setNonblock(fd int, on bool) error { return unix.SetNonblock(fd, on) }

func duplicateNumber(fd int) (int, error) {
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
}

// recvmsg sets close-on-exec right after the receipt; the fork lock keeps a
// child of this process from being born in between.
func recvmsg(sock int, buf, control []byte) (n, cn, flags int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	n, cn, flags, _, err = unix.Recvmsg(sock, buf, control, unix.MSG_DONTWAIT)
	if err != nil || cn == 0 {
		return
	}
	msgs, parseErr := unix.ParseSocketControlMessage(control[:cn])
	if parseErr != nil {
		return
	}
	for i := range msgs {
		fds, _ := unix.ParseUnixRights(&msgs[i])
		for _, fd := range fds {
			unix.CloseOnExec(fd)
		}
	}
	return
}

func sendmsg(sock int, data, control []byte) (int, error) {
	for {
		n, err := unix.SendmsgN(sock, data, control, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return max(n, 0), sendError(err, len(control) > 0)
		}
	}
}

// sendError gives the error of a send the name that it has on Linux.
func sendError(err error, descriptors bool) error {
	switch {
	case err == unix.EMSGSIZE && descriptors: // macOS, NetBSD: no room for them in the peer's buffer, at the moment
		return unix.EAGAIN
	case err == unix.EMFILE && descriptors: // OpenBSD: too many in flight
		return errno.ETOOMANYREFS
	case err == unix.ENOTCONN: // FreeBSD: the peer went while the message was on its way
		return unix.EPIPE
	}
	return err
}

func peerFamily(fd int) (uint16, error) {
	peer, err := unix.Getpeername(fd)
	if err != nil {
		return 0, err
	}
	if _, ok := peer.(*unix.SockaddrUnix); ok {
		return unix.AF_UNIX, nil
	}
	return unix.AF_UNSPEC, nil
}

func socketType(fd int) (int, error) { return unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE) }

//go:build unix

package fdpass

import (
	"fmt"

	"golang.org/x/sys/unix"
)

func closeFD(fd int) { _ = unix.Close(fd) }

// Send sends data with fds in one message on socket sock and returns how many
// bytes went. It never blocks (MSG_DONTWAIT) and never raises SIGPIPE. It
// borrows sock and fds. A count below len(data) happens on byte streams only:
// the descriptors have then travelled with the first byte.
func Send(sock int, data []byte, fds ...int) (int, error) {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	for {
		n, err := unix.SendmsgN(sock, data, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// controlSpace has room for every descriptor that one message can carry, so
// that surplus ones are seen and closed instead of silently installed.
var controlSpace = unix.CmsgSpace(4 * MaxDescriptors)

// Recv reads one message from socket sock into buf, without blocking
// (EAGAIN when there is none). Received descriptors are close-on-exec and
// belong to the returned Message.
func Recv(sock int, buf []byte) (Message, error) {
	control := make([]byte, controlSpace)
	for {
		n, cn, flags, _, err := recvmsg(sock, buf, control)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return Message{}, err
		}
		return parse(n, control[:cn], flags)
	}
}

func parse(n int, control []byte, flags int) (Message, error) {
	m := Message{N: n}
	var fds []int
	for len(control) > 0 {
		hdr, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			m.Fault = ErrDescriptorsLost
			break
		}
		control = rest
		if hdr.Level != unix.SOL_SOCKET || hdr.Type != unix.SCM_RIGHTS {
			continue
		}
		got, err := unix.ParseUnixRights(&unix.SocketControlMessage{Header: hdr, Data: data})
		if err != nil {
			m.Fault = ErrDescriptorsLost
			break
		}
		fds = append(fds, got...)
	}
	m.FDs = Own(fds...)
	switch {
	case flags&unix.MSG_CTRUNC != 0:
		m.Fault = ErrDescriptorsLost
	case flags&unix.MSG_TRUNC != 0 && m.Fault == nil:
		m.Fault = ErrTruncated
	}
	return m, nil
}

// CheckConnection reports whether fd is a connected Unix stream socket that is
// no listener; else the error wraps ErrKind and says what it is. It neither
// reads nor writes. It borrows fd.
func CheckConnection(fd int) error {
	sotype, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return fmt.Errorf("%w: not a socket", ErrKind)
	}
	if sotype != unix.SOCK_STREAM {
		return fmt.Errorf("%w: not a stream socket", ErrKind)
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		return fmt.Errorf("%w: no local address: %v", ErrKind, err)
	}
	if _, ok := local.(*unix.SockaddrUnix); !ok {
		return fmt.Errorf("%w: not a Unix socket", ErrKind)
	}
	listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil || listening != 0 {
		return fmt.Errorf("%w: a listening socket", ErrKind)
	}
	if _, err := unix.Getpeername(fd); err != nil {
		return fmt.Errorf("%w: not connected", ErrKind)
	}
	return nil
}

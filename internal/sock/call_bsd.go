//go:build unix && !linux

package sock

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
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
	done := 0
	for _, p := range parts {
		if len(p) == 0 {
			continue
		}
		n, err := unix.SendmsgN(fd, p, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if err != nil && done == 0 {
			return 0, err
		}
		if done += max(n, 0); err != nil || n < len(p) {
			return done, nil
		}
	}
	return done, nil
}

// Dial connects to the Unix socket at path. It never blocks. A Conn that is dropped is
// closed only once CloseWhenDropped was called.
func Dial(path string) (*Conn, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	ctlErr := raw.Control(func(own uintptr) {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		if fd, err = unix.Dup(int(own)); err == nil {
			unix.CloseOnExec(fd)
		}
	})
	if err == nil {
		err = ctlErr
	}
	if err != nil {
		return nil, opError("dial", err)
	}
	return newConn(fd), nil
}

func accept(int) (*Conn, error) { return nil, opError("accept", errors.ErrUnsupported) }

func shutdownListener(int) error { return opError("close", errors.ErrUnsupported) }

func shutdown(fd, how int) error { return unix.Shutdown(fd, how) }

func closeFD(fd int) { _ = unix.Close(fd) }

func setNonblock(fd int, on bool) error { return unix.SetNonblock(fd, on) }

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
			return n, err
		}
	}
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

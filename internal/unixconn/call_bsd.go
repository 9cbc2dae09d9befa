//go:build unix && !linux

package unixconn

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

// send may send fewer parts than it is given, as the kernel may.
func send(fd int, parts [][]byte) (int, error) {
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

// Dial connects to the Unix socket at path. It never blocks.
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
	return New(fd), nil
}

// Accept answers errors.ErrUnsupported: on this system listeners wait by
// themselves.
func Accept(int) (*Conn, error) { return nil, opError("accept", errors.ErrUnsupported) }

// ShutdownListener answers errors.ErrUnsupported.
func ShutdownListener(int) error { return opError("close", errors.ErrUnsupported) }

func shutdown(fd, how int) error { return unix.Shutdown(fd, how) }

func closeFD(fd int) { _ = unix.Close(fd) }

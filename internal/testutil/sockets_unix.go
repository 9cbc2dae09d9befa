//go:build unix

package testutil

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// SocketPair makes a connected pair of Unix stream sockets. Both ends are closed
// at the test's end; a test may close them earlier.
func SocketPair(tb testing.TB) (a, b *net.UnixConn) {
	tb.Helper()
	fds := FDPair(tb, unix.SOCK_STREAM)
	return Conn(tb, fds[0]), Conn(tb, fds[1])
}

// FDPair makes a connected pair of Unix sockets of a type, say
// unix.SOCK_SEQPACKET. Both are non-blocking and close-on-exec, and the
// caller's to close.
func FDPair(tb testing.TB, sotype int) [2]int {
	tb.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := unix.Socketpair(unix.AF_UNIX, sotype, 0)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		tb.Skipf("this system has no Unix sockets of type %d", sotype)
	}
	if err != nil {
		tb.Fatal(err)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
		if err := unix.SetNonblock(fd, true); err != nil {
			tb.Fatal(err)
		}
	}
	return fds
}

// SendFDs sends data with fds, which it borrows, in one message on socket sock, and
// returns how many bytes went. It doesn't wait.
func SendFDs(sock int, data []byte, fds ...int) (int, error) {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	return unix.SendmsgN(sock, data, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// Conn makes a net.Conn of fd and owns it.
func Conn(tb testing.TB, fd int) *net.UnixConn {
	tb.Helper()
	file := os.NewFile(uintptr(fd), "pair")
	c, err := net.FileConn(file)
	_ = file.Close()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c.(*net.UnixConn)
}

// UnixPair makes a connection through a listener at path, which is gone again
// when it returns. Both ends are closed at the test's end; a test may close them
// earlier.
func UnixPair(tb testing.TB, path string) (dialled, accepted *net.UnixConn) {
	tb.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	d, err := net.Dial("unix", path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = d.Close() })
	a, err := l.Accept() // the connection waits in the backlog
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = a.Close() })
	return d.(*net.UnixConn), a.(*net.UnixConn)
}

// SocketDir makes a directory whose path is short enough for sockets in it, and
// removes it at the test's end.
func SocketDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "u")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// SocketPath is a path for one socket in a directory of its own.
func SocketPath(tb testing.TB) string {
	tb.Helper()
	return filepath.Join(SocketDir(tb), "s")
}

// FD lends c's descriptor. It is valid while c is open and reachable.
func FD(tb testing.TB, c syscall.Conn) (fd int) {
	tb.Helper()
	if err := Raw(tb, c).Control(func(f uintptr) { fd = int(f) }); err != nil {
		tb.Fatal(err)
	}
	return fd
}

// Raw returns c's raw connection.
func Raw(tb testing.TB, c syscall.Conn) syscall.RawConn {
	tb.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// Unread returns how many bytes wait at socket c to be read, at most 64 KiB, and
// takes none of them.
func Unread(tb testing.TB, c syscall.Conn) (n int) {
	tb.Helper()
	var err error
	ctlErr := Raw(tb, c).Control(func(fd uintptr) {
		n, _, err = unix.Recvfrom(int(fd), make([]byte, 64<<10), unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	if errors.Is(err, unix.EAGAIN) {
		return 0
	}
	if err := errors.Join(ctlErr, err); err != nil {
		tb.Fatal(err)
	}
	return n
}

// IsOpen reports whether fd is a descriptor of this process.
func IsOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

// CheckConnected fails the test unless what is written to a comes out of b: the
// two are the ends of one connection, and both are alive.
func CheckConnected(tb testing.TB, a io.Writer, b io.Reader) {
	tb.Helper()
	const text = "usher"
	got := make([]byte, len(text))
	_, writeErr := io.WriteString(a, text)
	_, readErr := io.ReadFull(b, got)
	if err := errors.Join(writeErr, readErr); err != nil || string(got) != text {
		tb.Fatalf("the ends are not connected: %q, %v", got, err)
	}
}

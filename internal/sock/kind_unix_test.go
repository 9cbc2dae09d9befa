//go:build unix

package sock

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/testutil"
)

func socket(t *testing.T, domain, sotype int) int {
	t.Helper()
	fd, err := unix.Socket(domain, sotype, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func file(t *testing.T, f *os.File, err error) int {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return testutil.FD(t, f)
}

// TestCheckConnectionRefuses everything that can stand in a connection's place.
func TestCheckConnectionRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		open func(t *testing.T) int
		what string
	}{
		"no descriptor": {func(*testing.T) int { return -1 }, "not a socket"},
		"file": {func(t *testing.T) int {
			f, err := os.Open(os.DevNull)
			return file(t, f, err)
		}, "not a socket"},
		"pipe": {func(t *testing.T) int {
			r, w, err := os.Pipe()
			file(t, w, err)
			return file(t, r, err)
		}, "not a socket"},
		"tcp": {func(t *testing.T) int { return socket(t, unix.AF_INET, unix.SOCK_STREAM) }, "not a Unix socket"},
		"udp": {func(t *testing.T) int { return socket(t, unix.AF_INET, unix.SOCK_DGRAM) }, "not a stream"},
		"datagram": {func(t *testing.T) int {
			a, _ := fdPair(t, unix.SOCK_DGRAM)
			return a
		}, "not a stream"},
		"seqpacket": {func(t *testing.T) int {
			a, _ := fdPair(t, unix.SOCK_SEQPACKET)
			return a
		}, "not a stream"},
		"unconnected": {func(t *testing.T) int { return socket(t, unix.AF_UNIX, unix.SOCK_STREAM) }, "not connected"},
		"listener": {func(t *testing.T) int {
			l, err := net.Listen("unix", testutil.SocketPath(t))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
			return testutil.FD(t, l.(*net.UnixListener))
		}, "listening"},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			fd := c.open(t)
			err := checkConnection(fd)
			if !errors.Is(err, ErrKind) || !strings.Contains(err.Error(), c.what) {
				t.Errorf("got %v, want %s", err, c.what)
			}
			if fd >= 0 && !testutil.IsOpen(fd) {
				t.Error("it was borrowed, and is closed")
			}
		})
	}
}

// TestCheckConnectionAccepts connections, also those whose other end has gone:
// that shows when they are read.
func TestCheckConnectionAccepts(t *testing.T) {
	testutil.Leaks(t)
	dialled, accepted := testutil.UnixPair(t, testutil.SocketPath(t))
	left, right := testutil.SocketPair(t)
	for name, c := range map[string]*net.UnixConn{"dialled": dialled, "accepted": accepted, "pair": left} {
		if err := checkConnection(testutil.FD(t, c)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	_ = dialled.Close()
	_ = right.Close()
	for name, c := range map[string]*net.UnixConn{"accepted": accepted, "pair": left} {
		if err := checkConnection(testutil.FD(t, c)); err != nil {
			t.Errorf("%s, peer gone: %v", name, err)
		}
	}
}

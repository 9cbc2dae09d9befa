package endpoint

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestCheckServedBy: who names a socket must listen there himself.
func TestCheckServedBy(t *testing.T) {
	b := mustBind(t, filepath.Join(shortDir(t), "s.sock"))
	testutil.Leaks(t)
	if err := CheckServedBy(b.Path, os.Getpid()); err != nil {
		t.Errorf("the listener itself: %v", err)
	}
	var other *OtherListenerError
	if err := CheckServedBy(b.Path, os.Getpid()+1); !errors.As(err, &other) || other.PID != os.Getpid() || other.Path != b.Path {
		t.Errorf("another process: %v", err)
	}
	stale := filepath.Join(filepath.Dir(b.Path), "stale")
	makeStale(t, stale)
	if err := CheckServedBy(stale, os.Getpid()); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("nobody: %v", err)
	}
}

// TestCheckServedByDoesNotWait for a listener whose queue is full.
func TestCheckServedByDoesNotWait(t *testing.T) {
	path := filepath.Join(shortDir(t), "s.sock")
	fd := socket(t)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	err := CheckServedBy(path, os.Getpid())
	for range 3 { // a backlog of 0 holds one
		if err == nil {
			err = CheckServedBy(path, os.Getpid())
		}
	}
	if !errors.Is(err, unix.EAGAIN) {
		t.Errorf("a full queue: %v", err)
	}
}

// TestProbeIsKnown to the listener, from a client.
func TestProbeIsKnown(t *testing.T) {
	b := mustBind(t, filepath.Join(shortDir(t), "s.sock"))
	dials := []func() error{
		func() error { return CheckServedBy(b.Path, os.Getpid()) },
		func() error {
			c, err := net.Dial("unix", b.Path)
			if err == nil {
				t.Cleanup(func() { _ = c.Close() })
			}
			return err
		},
	}
	for i, dial := range dials {
		if err := dial(); err != nil {
			t.Fatal(err)
		}
		c, err := b.Listener.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		if is := IsProbe(c); is != (i == 0) {
			t.Errorf("dial %d: a probe: %v", i, is)
		}
		_ = c.Close()
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(b.Path), "*")); err != nil || len(left) > 2 { // the socket, and its lock
		t.Errorf("left beside the socket: %q, %v", left, err)
	}
}

func socket(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

//go:build usher_portable

package endpoint

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
)

// refusing is a socket at path which a process has, and which refuses connections: as one
// whose backlog is full does on macOS and the BSDs, and on Linux one that does not listen.
func refusing(t *testing.T, path string) *sock.FD {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	held := sock.Own(fd)
	t.Cleanup(held.Close)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	return held
}

// TestFullBacklogIsNotDead: nobody takes the name of a socket that refuses connections while
// a process has it.
func TestFullBacklogIsNotDead(t *testing.T) {
	path := filepath.Join(shortDir(t), "run", "s.sock")
	held := refusing(t, path)
	before, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	var inUse *InUseError
	if b, err := Bind(path); !errors.As(err, &inUse) {
		t.Errorf("Bind: %v, %v, want *InUseError", b, err)
	}
	if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the name was taken: %v", err)
	}
	held.Close()
	mustBind(t, path)
}

// TestFullBacklogOfABackend: a pipe is not swept away from a backend that has much to do.
func TestFullBacklogOfABackend(t *testing.T) {
	runtimeDir(t)
	path, err := NewBackendPath()
	if err != nil {
		t.Fatal(err)
	}
	held := refusing(t, path)
	age(t, path)
	if n := RemoveDeadBackends(); n != 0 {
		t.Error("removed")
	}
	RemoveDead(path)
	if err := CheckServedBy(path, os.Getpid()); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("who serves it: %v, want EAGAIN", err)
	}
	held.Close()
	if n := RemoveDeadBackends(); n != 1 {
		t.Errorf("dead: %d removed", n)
	}
}

// TestFullBacklogIsWaitedFor, and not taken for nobody.
func TestFullBacklogIsWaitedFor(t *testing.T) {
	path := filepath.Join(shortDir(t), "run", "s.sock")
	held := refusing(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, path); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, unix.EAGAIN) {
		t.Errorf("%v, want the end of the time", err)
	}
	n, _ := sock.Borrow(held)
	if err := unix.Listen(n, 1); err != nil {
		t.Fatal(err)
	}
	sock.Return(held)
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

package endpoint

import (
	"errors"
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

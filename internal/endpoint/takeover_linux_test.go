package endpoint

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// succession is a Binding, and that of its successor.
func succession(t *testing.T) (path string, first, second *Binding) {
	t.Helper()
	path = filepath.Join(shortDir(t), "s.sock")
	first, err := Bind(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := first.Listener.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	l, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	if second, err = TakeOver(path, l.(*net.UnixListener)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = first.Close(), second.Close() })
	return path, first, second
}

// isLocked reports whether somebody has the lock.
func isLocked(t *testing.T, path string) bool {
	t.Helper()
	l, err := takeLock(path+".lock", path)
	if err == nil {
		if err := l.release(); err != nil {
			t.Error(err)
		}
		return false
	}
	if used := (*InUseError)(nil); !errors.As(err, &used) {
		t.Error(err)
	}
	return true
}

// owns reports whether the Binding has the lock.
func (b *Binding) owns() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lock != nil
}

// TestLockPasses: the lock that was passed is held by the successor, whatever the predecessor
// does, until it ends.
func TestLockPasses(t *testing.T) {
	testutil.Leaks(t)
	path, first, second := succession(t)
	lock, err := first.ShareLock()
	if err != nil {
		t.Fatal(err)
	}
	second.Own(lock, false)
	testutil.WaitFor(t, "the successor has the lock", second.owns)
	first.Disown(true)
	if err := first.Close(); err != nil || !isLocked(t, path) {
		t.Errorf("behind the predecessor's end: %v, locked %t", err, isLocked(t, path))
	}
	if pid := readPID(path + ".lock"); pid != os.Getpid() {
		t.Errorf("the file names process %d", pid)
	}
	if err := second.Close(); err != nil || isLocked(t, path) {
		t.Errorf("behind the successor's end: %v, locked %t", err, isLocked(t, path))
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the name is there: %v", err)
	}
}

// TestLockBehindTheEnd: a successor that has ended does not get the lock; and one that ends
// frees it, whoever has a copy of its descriptor, as a child has before exec.
func TestLockBehindTheEnd(t *testing.T) {
	testutil.Leaks(t)
	path, first, second := succession(t)
	second.Own(nil, true)
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	held, err := first.ShareLock()
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	testutil.WaitFor(t, "the lock is free", func() bool { return !isLocked(t, path) })
	if fd, err := first.ShareLock(); fd != nil || err != nil {
		t.Errorf("a lock behind its end: %v, %v", fd, err)
	}
}

// TestLockThatIsNotPassed: without a lock, and with something else in its place, the successor
// gets it when the predecessor has ended.
func TestLockThatIsNotPassed(t *testing.T) {
	for name, passed := range map[string]func(*testing.T) *sock.FD{
		"nothing": func(*testing.T) *sock.FD { return nil },
		"another file": func(t *testing.T) *sock.FD {
			f, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			fd, err := sock.Duplicate(f)
			if err != nil {
				t.Fatal(err)
			}
			return fd
		},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			path, first, second := succession(t)
			second.Own(passed(t), true)
			if second.owns() || !isLocked(t, path) {
				t.Error("the lock is not the predecessor's")
			}
			first.Disown(false)
			if err := first.Close(); err != nil {
				t.Error(err)
			}
			testutil.WaitFor(t, "the successor has the lock", second.owns)
			if !isLocked(t, path) {
				t.Error("it has another lock")
			}
			if err := second.Close(); err != nil || isLocked(t, path) {
				t.Errorf("behind the successor's end: %v, locked %t", err, isLocked(t, path))
			}
			if _, err := os.Lstat(path); err != nil {
				t.Errorf("the name, which is somebody else's: %v", err)
			}
		})
	}
}

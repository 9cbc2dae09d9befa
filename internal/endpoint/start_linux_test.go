package endpoint_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestStartLockWithBroker: those who have waited while a broker was started are let go
// without the lock.
func TestStartLockWithBroker(t *testing.T) {
	testutil.Leaks(t)
	path := filepath.Join(testutil.SocketDir(t), "b.sock")
	first, err := endpoint.LockStart(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	const waiters = 8
	ended := make(chan *endpoint.StartLock)
	for range waiters {
		go func() {
			lock, err := endpoint.LockStart(t.Context(), path)
			if err != nil {
				t.Error(err)
			}
			ended <- lock
		}()
	}
	testutil.WaitFor(t, "all wait", func() bool { return waitFor(t, path+".start") == waiters })
	b, err := endpoint.Bind(path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := first.Unlock(); err != nil {
		t.Fatal(err)
	}
	for range waiters {
		if lock := <-ended; lock != nil {
			t.Error("one has the lock:", lock.Unlock())
		}
	}
}

// waitFor counts who waits for the lock of the file at path.
func waitFor(t *testing.T, path string) (n int) {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		t.Skip(err)
	}
	inode := fmt.Sprintf(":%d ", fi.Sys().(*syscall.Stat_t).Ino)
	for line := range strings.Lines(string(locks)) {
		if strings.Contains(line, "-> FLOCK") && strings.Contains(line, inode) {
			n++
		}
	}
	return n
}

// TestStartLockOfARemovedFile: who has waited for the lock of a file that was removed
// meanwhile holds nothing: others lock the file that has its name now.
func TestStartLockOfARemovedFile(t *testing.T) {
	testutil.Leaks(t)
	path := filepath.Join(testutil.SocketDir(t), "b.sock")
	name := path + ".start"
	// Somebody whose lock leaves room for those who wait together, so that the waiter is
	// behind that, and wants to be the next.
	first, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if err := syscall.Flock(int(first.Fd()), syscall.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	waited := make(chan *endpoint.StartLock, 1)
	go func() {
		lock, err := endpoint.LockStart(t.Context(), path)
		if err != nil {
			t.Error(err)
		}
		waited <- lock
	}()
	testutil.WaitFor(t, "one waits", func() bool { return waitFor(t, name) == 1 })
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	second, err := endpoint.LockStart(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(first.Fd()), syscall.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	var third *endpoint.StartLock
	testutil.WaitFor(t, "it waits for the file that is there", func() bool {
		select {
		case third = <-waited:
			return true
		default:
			return waitFor(t, name) == 1
		}
	})
	if third != nil {
		t.Error("two hold the lock")
	}
	if err := second.Unlock(); err != nil {
		t.Fatal(err)
	}
	if third == nil {
		third = <-waited
	}
	if err := third.Unlock(); err != nil {
		t.Error(err)
	}
}

// TestTakeOverWithARemovedLock: a successor that waits for its predecessor's lock takes that
// of the file that is there by then.
func TestTakeOverWithARemovedLock(t *testing.T) {
	testutil.Leaks(t)
	path := filepath.Join(testutil.SocketDir(t), "b.sock")
	name := path + ".lock"
	lock := func() *os.File {
		t.Helper()
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			t.Fatal(err)
		}
		return f
	}
	predecessor := lock()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := endpoint.TakeOver(path, l)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	b.Own(nil, false)
	testutil.WaitFor(t, "it waits for its predecessor", func() bool { return waitFor(t, name) == 1 })
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	other := lock()
	_ = predecessor.Close()
	testutil.WaitFor(t, "it waits for the file that is there", func() bool { return waitFor(t, name) == 1 })
	_ = other.Close()
	testutil.WaitFor(t, "it has the lock", func() bool {
		pid, err := os.ReadFile(name)
		return err == nil && strings.TrimSpace(string(pid)) == strconv.Itoa(os.Getpid())
	})
}

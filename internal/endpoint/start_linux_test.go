package endpoint_test

import (
	"fmt"
	"os"
	"path/filepath"
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

package systemd

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
)

func TestSocketsMeantForOthers(t *testing.T) {
	for name, pid := range map[string]string{"no variable": "", "another process": "1", "no number": "x"} {
		t.Setenv("LISTEN_PID", pid)
		t.Setenv("LISTEN_FDS", "1")
		if s, err := Sockets(); s != nil || err != nil {
			t.Errorf("%s: %v, %v", name, s, err)
		}
		if left, ok := os.LookupEnv("LISTEN_FDS"); ok {
			t.Errorf("%s: LISTEN_FDS is still %q", name, left)
		}
	}
	for _, count := range []string{"", "-1", "x", "1025"} {
		t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
		t.Setenv("LISTEN_FDS", count)
		if _, err := Sockets(); err == nil {
			t.Errorf("LISTEN_FDS %q is taken", count)
		}
	}
}

func TestNobodyToTell(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	n, err := NewNotifier()
	if n != nil || err != nil || n.Say("READY=1") != nil || n.Watchdog() != 0 || n.Close() != nil {
		t.Errorf("%v, %v", n, err)
	}
	for _, path := range []string{"relative", "vsock:2:1", filepath.Join(t.TempDir(), "gone")} {
		t.Setenv("NOTIFY_SOCKET", path)
		if _, err := NewNotifier(); err == nil {
			t.Errorf("%q is taken", path)
		}
	}
}

func TestNotifier(t *testing.T) {
	testutil.Leaks(t)
	for _, name := range []string{filepath.Join(testutil.SocketDir(t), "n"), "@usher-test-" + strconv.Itoa(os.Getpid())} {
		manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("NOTIFY_SOCKET", name)
		t.Setenv("WATCHDOG_USEC", "3000000")
		t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
		n, err := NewNotifier()
		if err != nil {
			t.Fatal(err)
		}
		if n.Watchdog() != 3*time.Second {
			t.Errorf("the watchdog waits %v", n.Watchdog())
		}
		for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
			if left, ok := os.LookupEnv(name); ok {
				t.Errorf("%s is still %q", name, left)
			}
		}
		expect := func(err error, want string, descriptors int) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 1024)
			m, err := sock.Receive(manager, buf)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(buf[:m.N]); got != want || m.FDs.Len() != descriptors {
				t.Errorf("%q with %d descriptors, want %q with %d", got, m.FDs.Len(), want, descriptors)
			}
			m.FDs.Close()
		}
		expect(n.Say("READY=1", "STATUS=serving"), "READY=1\nSTATUS=serving", 0)
		expect(n.Keep("l", manager), "FDSTORE=1\nFDNAME=l", 1)
		expect(n.Forget("l"), "FDSTOREREMOVE=1\nFDNAME=l", 0)
		var full error
		for range 1 << 12 { // a manager that does not read
			if full = n.Say("WATCHDOG=1"); full != nil {
				break
			}
		}
		if full == nil {
			t.Error("a full queue is no error")
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		_ = manager.Close()
	}
}

func TestWatchdogOfAnother(t *testing.T) {
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(testutil.SocketDir(t), "n"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	for pid, usec := range map[string]string{"1": "1000", "": "-1"} {
		t.Setenv("NOTIFY_SOCKET", manager.LocalAddr().String())
		t.Setenv("WATCHDOG_USEC", usec)
		t.Setenv("WATCHDOG_PID", pid)
		n, err := NewNotifier()
		if err != nil {
			t.Fatal(err)
		}
		if n.Watchdog() != 0 {
			t.Errorf("pid %q, usec %q: the watchdog waits %v", pid, usec, n.Watchdog())
		}
		_ = n.Close()
	}
}

package broker_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestPipeOfAnotherBackendIsRefused: who names a pipe that another process serves
// gets neither its clients nor, with his end, its name.
func TestPipeOfAnotherBackendIsRefused(t *testing.T) {
	s := newSite(t, nil)
	pipe := filepath.Join(s.dir, "a")
	a := s.echoProcess(pipe)
	answer, _, err := register(s.Socket(), &wire.Register{ServiceName: demo, ServiceVersion: demoVersion, BackendPipe: pipe})
	want := fmt.Sprintf("%s is served by process %d, not by process %d", pipe, a.Process.Pid, os.Getpid())
	if err != nil || answer.Accepted || !strings.Contains(answer.Reason, want) {
		t.Errorf("got %v, %v; want %q", answer, err, want)
	}
	if n := s.Backends(); n != 1 {
		t.Errorf("%d backends are registered, want the first alone", n)
	}
	c := dial(t, pipe) // still A's
	testutil.CheckConnected(t, c, c)
	_ = c.Close()
	a.end()
}

// TestPipeWithAFullQueueIsRefused: who listens there can't be asked without
// waiting, and the registrant is told so.
func TestPipeWithAFullQueueIsRefused(t *testing.T) {
	s := newSite(t, nil)
	pipe := filepath.Join(s.dir, "full")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: pipe}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	dial(t, pipe) // a backlog of 0 holds one
	answer, _, err := register(s.Socket(), &wire.Register{ServiceName: demo, ServiceVersion: demoVersion, BackendPipe: pipe})
	if err != nil || answer.Accepted || !strings.Contains(answer.Reason, "its queue is full") {
		t.Errorf("got %v, %v", answer, err)
	}
}

// TestNextBrokerRemovesDeadPipes: backends that were killed while no broker ran
// leave their sockets, and nobody else would ever remove them.
func TestNextBrokerRemovesDeadPipes(t *testing.T) {
	run := testutil.SocketDir(t)
	t.Setenv("XDG_RUNTIME_DIR", run)
	first := newSite(t, nil)
	killed, lives := first.echoProcess(""), first.echoProcess("")
	pipes, err := filepath.Glob(filepath.Join(run, "running-process", "broker", "*.sock"))
	if err != nil || len(pipes) != 2 {
		t.Fatal(pipes, err)
	}
	first.close()
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait()
	long := time.Now().Add(-time.Minute)
	for _, pipe := range pipes {
		if err := os.Chtimes(pipe, long, long); err != nil {
			t.Fatal(err)
		}
	}
	newSite(t, nil)
	left := func() (left []string) {
		left, _ = filepath.Glob(filepath.Join(run, "running-process", "broker", "*.sock"))
		return left
	}
	testutil.WaitFor(t, "the dead pipe is gone", func() bool { return len(left()) < 2 })
	if pipes := left(); len(pipes) != 1 {
		t.Fatalf("%d pipes are left, want the living backend's", len(pipes))
	}
	c := dial(t, left()[0])
	testutil.CheckConnected(t, c, c)
	_ = c.Close()
	lives.end()
}

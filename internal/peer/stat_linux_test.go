//go:build linux && !usher_portable

package peer

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// sleeper is a process that does nothing until it is killed.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func byStat(t *testing.T, pid int) *Process {
	t.Helper()
	h, err := openStat(pid)
	p, err := newProcess(pid, h, err)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// TestStatFileSeesTheEnd: a process has ended when it exits, before and after its
// parent reaps it.
func TestStatFileSeesTheEnd(t *testing.T) {
	testutil.Leaks(t)
	c := sleeper(t)
	p := byStat(t, c.Process.Pid)
	if !p.Alive() {
		t.Error("not alive at first")
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(t.Context()); err != nil || p.Alive() {
		t.Errorf("zombie: waited %v, alive %v", err, p.Alive())
	}
	if _, err := openStat(c.Process.Pid); !errors.Is(err, unix.ESRCH) {
		t.Errorf("a zombie can be opened: %v", err)
	}
	_ = c.Wait()
	if ended, err := p.exited(); !ended || err != nil {
		t.Errorf("reaped: ended %v, %v", ended, err)
	}
	if _, err := openStat(c.Process.Pid); !errors.Is(err, unix.ESRCH) {
		t.Errorf("the dead can be opened: %v", err)
	}
}

// TestStatFileTellsARecycledPid by the start time.
func TestStatFileTellsARecycledPid(t *testing.T) {
	p := byStat(t, os.Getpid())
	p.handle.(*statFile).start--
	if p.Alive() {
		t.Error("a process that started at another time passes for it")
	}
}

func TestCloseEndsWaitOnAStatFile(t *testing.T) {
	testutil.Leaks(t)
	p := byStat(t, os.Getpid())
	ended := make(chan error)
	go func() { ended <- p.Wait(t.Context()) }()
	p.Close()
	p.Close()
	if err := <-ended; err != os.ErrClosed || p.Alive() {
		t.Errorf("waited %v, alive %v", err, p.Alive())
	}
}

// TestUnknownIsNotDead: a stat file that can't be read proves nothing.
func TestUnknownIsNotDead(t *testing.T) {
	p := byStat(t, os.Getpid())
	s := p.handle.(*statFile)
	dir, err := os.Open(t.TempDir()) // reading it fails
	if err != nil {
		t.Fatal(err)
	}
	_ = s.file.Close()
	s.file = dir
	if !p.Alive() {
		t.Error("a failed read passes for the end of the process")
	}
}

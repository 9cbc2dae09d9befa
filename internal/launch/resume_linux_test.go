package launch_test

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/launch"
	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// passedOn is a process of a role, and the same as another broker has it; child is what it has
// started.
func passedOn(t *testing.T, role string) (own, passed *launch.Process, child int) {
	t.Helper()
	testutil.Needs(t, "pidfds, which are passed on")
	testutil.Leaks(t)
	own, said := begin(t, role, nil)
	line, err := said.ReadString('\n')
	if err == nil {
		child, err = strconv.Atoi(strings.TrimSpace(line))
	}
	if err != nil {
		t.Fatal(err)
	}
	fd, err := own.Handle().Share()
	if err != nil {
		t.Fatal(err)
	}
	handle, err := peer.Resume(fd)
	if err != nil {
		t.Fatal(err)
	}
	return own, launch.Resume(handle), child
}

// gone waits until a process has ended that is nobody's here.
func gone(t *testing.T, pid int) {
	t.Helper()
	testutil.WaitFor(t, "it has ended", func() bool {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		return errors.Is(err, os.ErrNotExist) || strings.Contains(string(stat), ") Z ")
	})
}

// TestResume: who is passed a process ends it and its group, whatever it does when it is asked,
// and is told that it has ended, and not how.
func TestResume(t *testing.T) {
	for role, want := range map[string]string{"obliging": "exited with code 0", "stubborn": "was ended by signal: killed"} {
		t.Run(role, func(t *testing.T) {
			own, passed, child := passedOn(t, role)
			grace := 20 * time.Second
			if role == "stubborn" {
				grace = 50 * time.Millisecond
			}
			exit := passed.End(within(t), grace)
			if passed.PID() != own.PID() || exit.Failed() || exit.Known() != "" || exit == (launch.Exit{}) {
				t.Errorf("process %d, %v, as %d", passed.PID(), exit, own.PID())
			}
			gone(t, child)
			if exit, err := own.Wait(within(t)); err != nil || exit.Known() != want || exit.Failed() == (exit == launch.Exit{}) {
				t.Errorf("it %v, %v", exit, err)
			}
		})
	}
}

// TestResumeBehindTheLeader: what is left of the group of one that has ended, and been reaped, is
// ended; a released one lives on.
func TestResumeBehindTheLeader(t *testing.T) {
	own, passed, child := passedOn(t, "stubborn")
	if self, err := unix.PidfdOpen(os.Getpid(), 0); err == nil {
		err = unix.PidfdSendSignal(self, 0, nil, 1<<2) // to the group
		_ = unix.Close(self)
		if errors.Is(err, unix.EINVAL) {
			own.End(within(t), 0)
			passed.Release()
			t.Skip("before Linux 6.9 nothing leads to the group of one that has been reaped")
		}
	}
	if err := syscall.Kill(own.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := own.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	passed.End(within(t), time.Hour)
	gone(t, child)

	own, passed, child = passedOn(t, "obliging")
	passed.Release()
	if exit, err := passed.Wait(context.Background()); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a released one: %v, %v", exit, err)
	}
	if !own.Handle().Alive() {
		t.Error("it has ended")
	}
	own.End(within(t), 20*time.Second)
	gone(t, child)
}

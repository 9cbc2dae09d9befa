package world

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

const stop = syscall.SIGSTOP

// prepare makes the kernel kill the process when this one is killed, and a foreign
// one the leader of a group.
func prepare(cmd *exec.Cmd, foreign bool) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: foreign}
	return nil
}

func terminate(p *Process) error { return p.Signal(syscall.SIGTERM) }

// awaitLeader waits until the process has ended, and does not reap it: until that
// is done nobody else gets its number, nor that of its group.
func awaitLeader(pid int) {
	for {
		if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func (p *Process) killGroup() error { return signalGroup(p.PID(), syscall.SIGKILL) }

func signalGroup(leader int, sig os.Signal) error {
	return unix.Kill(-leader, sig.(syscall.Signal))
}

// Raise sends this process a signal whose effect has come when the call returns:
// it goes to the calling thread, which meets it on its way out of the kernel. A
// signal to the whole process may be taken by another thread while this one runs
// on.
func Raise(sig syscall.Signal) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return unix.Tgkill(os.Getpid(), unix.Gettid(), sig)
}

// AwaitFrozen waits until the process has stopped.
func (p *Process) AwaitFrozen(ctx context.Context) error {
	return Until(ctx, p.Name+" stopped", func() (bool, error) {
		stat, err := readStat(p.PID())
		if err != nil {
			return false, err
		}
		return stat[statState] == "T", nil
	})
}

// Freeze stops the process from outside and waits until it has stopped.
func (p *Process) Freeze(ctx context.Context) error {
	if err := p.Signal(stop); err != nil {
		return fmt.Errorf("freeze %s: %w", p.Name, err)
	}
	return p.AwaitFrozen(ctx)
}

// Thaw makes a frozen process continue.
func (p *Process) Thaw() error { return p.Signal(syscall.SIGCONT) }

package world

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

func supported() error { return nil }

// prepare makes the kernel kill the process when this one is killed, and a foreign
// one the leader of a group.
func prepare(cmd *exec.Cmd, foreign bool) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: foreign}
	return nil
}

// awaitLeader waits until the process has ended, and does not reap it: until that
// is done nobody else gets its number, nor that of its group.
func awaitLeader(pid int) {
	for {
		if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func signalGroup(leader int, sig os.Signal) error {
	return unix.Kill(-leader, sig.(syscall.Signal))
}

func (p *Process) freeze() error { return p.Signal(syscall.SIGSTOP) }

// Thaw makes a frozen process continue.
func (p *Process) Thaw() error { return p.Signal(syscall.SIGCONT) }

// Raise sends this process a signal whose effect has come when the call returns:
// it goes to the calling thread, which meets it on its way out of the kernel. A
// signal to the whole process may be taken by another thread while this one runs
// on.
func Raise(sig syscall.Signal) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return unix.Tgkill(os.Getpid(), unix.Gettid(), sig)
}

//go:build linux && !usher_portable

package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A program is held by tracing it for a moment: the kernel stops it between the end of
// execve, which can't fail any more, and its first instruction.

// canHold asks the system once: a filter, or a tracer of this process that follows its
// children, may keep it from tracing them.
var canHold = sync.OnceValue(func() bool {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{} // what it is does not matter: it is ended at its first instruction
	err := startHeld(cmd, func() error { return errProbe })
	return errors.Is(err, errProbe)
})

var errProbe = errors.New("held")

// mayHold reports whether the program can be held. One that gets other rights than its
// user's would not get them while it is traced.
func mayHold(program *os.File) bool {
	if program != nil {
		if fi, err := program.Stat(); err != nil || fi.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 || hasCapabilities(program) {
			return false
		}
	}
	return canHold()
}

// startHeld starts cmd, calls first while it is held, and lets it go, or ends it after an
// error of first's.
func startHeld(cmd *exec.Cmd, first func() error) error {
	runtime.LockOSThread() // it is the thread that traces
	defer runtime.UnlockOSThread()
	attr := syscall.SysProcAttr{}
	if cmd.SysProcAttr != nil {
		attr = *cmd.SysProcAttr
	}
	attr.Ptrace = true
	cmd.SysProcAttr = &attr
	if err := cmd.Start(); err != nil {
		return err
	}
	pid := cmd.Process.Pid
	err := awaitStop(pid)
	if err == nil {
		err = first()
	}
	if err == nil {
		if err = unix.PtraceDetach(pid); err == nil || errors.Is(err, unix.ESRCH) { // it has been killed meanwhile, which its exit says
			return nil
		}
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	_ = cmd.Wait()
	return err
}

// awaitStop waits for the stop behind execve, and leaves the process unreaped where it has
// been killed instead.
func awaitStop(pid int) error {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT|unix.WALL, nil)
		if !errors.Is(err, unix.EINTR) {
			if err != nil {
				return fmt.Errorf("hold the program: %w", err)
			}
			return nil
		}
	}
}

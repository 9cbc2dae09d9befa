//go:build unix

package launch

import (
	"os"
	"os/signal"
	"syscall"
)

const root = "/"

// standardPath is PATH at login (spec 03 §11, step 6).
const standardPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// detached gives the process a session of its own: no terminal reaches it.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// endGroup asks the group of leader to end, or ends it.
func endGroup(leader int, now bool) error {
	sig := syscall.SIGTERM
	if now {
		sig = syscall.SIGKILL
	}
	return syscall.Kill(-leader, sig)
}

// NotifyUpgrade has c told when somebody asks for an upgrade: SIGUSR2.
func NotifyUpgrade(c chan<- os.Signal) { signal.Notify(c, syscall.SIGUSR2) }

// exitOf is how a process ended; s is nil where somebody else of this process has waited for
// it, as a program may that has the broker in it.
func exitOf(s *os.ProcessState) Exit {
	if s == nil {
		return Exit{Code: -1}
	}
	exit := Exit{Code: s.ExitCode()}
	if status, ok := s.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		exit.Signal = status.Signal().String()
	}
	return exit
}

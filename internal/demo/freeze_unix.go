//go:build unix

package demo

import (
	"os"
	"os/signal"
	"syscall"
)

// freeze stops this process and returns when it has been told to continue. The
// caller passes no instruction in between, whichever thread the stop hits first.
func freeze() error {
	resumed := make(chan os.Signal, 1)
	signal.Notify(resumed, syscall.SIGCONT)
	defer signal.Stop(resumed)
	if err := syscall.Kill(os.Getpid(), syscall.SIGSTOP); err != nil {
		return err
	}
	<-resumed
	return nil
}

// thaw makes a frozen process continue.
func thaw(p *os.Process) error { return p.Signal(syscall.SIGCONT) }

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

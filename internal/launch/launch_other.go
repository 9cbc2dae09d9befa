//go:build !unix

package launch

import (
	"errors"
	"os"
	"syscall"
)

const root = ""

var standardPath = os.Getenv("PATH")

func detached() *syscall.SysProcAttr { return nil }

// endGroup answers errors.ErrUnsupported: groups of processes are not ended on this
// system yet.
func endGroup(int, bool) error { return errors.ErrUnsupported }

// NotifyUpgrade does nothing: this system has no signal for it.
func NotifyUpgrade(chan<- os.Signal) {}

func exitOf(s *os.ProcessState) Exit { return Exit{Code: s.ExitCode()} }

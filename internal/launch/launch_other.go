//go:build !unix && !windows

package launch

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

const root, standardPath = "", ""

func detached() *syscall.SysProcAttr { return nil }

// group is nothing: no process is started on this system.
type group struct{}

func lead(int) (group, error) { return group{}, errors.ErrUnsupported }

func (group) end(bool) error { return errors.ErrUnsupported }

func (group) close() {}

// bequest is nothing that is left to anybody here.
type bequest struct {
	files   []*os.File
	numbers []string
}

func (s Spec) bequeath() (bequest, error) {
	for _, fd := range s.Given {
		fd.Close()
	}
	return bequest{}, errors.ErrUnsupported
}

func (bequest) leaveTo(*exec.Cmd) {}

func (bequest) close() {}

// NotifyUpgrade does nothing: this system has no signal for it.
func NotifyUpgrade(chan<- os.Signal) {}

func exitOf(s *os.ProcessState) Exit { return Exit{Code: s.ExitCode()} }

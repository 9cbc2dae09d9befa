//go:build !linux

package world

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

func supported() error {
	return fmt.Errorf("%w on %s: this freezes processes and counts what they hold, which is done on Linux alone", errors.ErrUnsupported, runtime.GOOS)
}

// Nobody can be frozen here, and nothing ends a process with this one: a role ends
// with its standard input.
const sigStop, sigCont = syscall.Signal(0), syscall.Signal(0)

func prepare(_ *exec.Cmd, foreign bool) error {
	if foreign {
		return errors.ErrUnsupported
	}
	return nil
}

func awaitLeader(int) {}

func signalGroup(int, os.Signal) error { return errors.ErrUnsupported }

// Raise is for Linux.
func Raise(syscall.Signal) error { return errors.ErrUnsupported }

// CPUTime is for Linux.
func CPUTime(int) (time.Duration, error) { return 0, errors.ErrUnsupported }

// AdoptOrphans is for Linux.
func AdoptOrphans() error { return errors.ErrUnsupported }

// EndDetached is for Linux.
func (w *World) EndDetached(...int) error { return errors.ErrUnsupported }

// Switches is for Linux.
func (p *Process) Switches() (int64, error) { return 0, errors.ErrUnsupported }

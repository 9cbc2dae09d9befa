//go:build !linux && !windows

package world

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"
)

func supported() error {
	return fmt.Errorf("%w on %s: this freezes processes and counts what they hold, which is done on Linux and Windows alone", errors.ErrUnsupported, runtime.GOOS)
}

// Nobody can be frozen here, and nothing ends a process with this one: a role ends with its
// standard input.
func (p *Process) freeze() error { return errors.ErrUnsupported }

// Thaw is for Linux and Windows.
func (p *Process) Thaw() error { return errors.ErrUnsupported }

func prepare(_ *exec.Cmd, foreign bool) error {
	if foreign {
		return errors.ErrUnsupported
	}
	return nil
}

func awaitLeader(int) {}

func signalGroup(int, os.Signal) error { return errors.ErrUnsupported }

// Raise is for Linux.
func Raise(os.Signal) error { return errors.ErrUnsupported }

// CPUTime is for Linux.
func CPUTime(int) (time.Duration, error) { return 0, errors.ErrUnsupported }

// AdoptOrphans is for Linux.
func AdoptOrphans() error { return errors.ErrUnsupported }

// EndDetached is for Linux.
func (w *World) EndDetached(...int) error { return errors.ErrUnsupported }

// Switches is for Linux.
func (p *Process) Switches() (int64, error) { return 0, errors.ErrUnsupported }

//go:build !linux

package world

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
)

const stop = syscall.Signal(0)

// prepare has no means here to kill the process with this one: a role ends with its
// standard input instead.
func prepare(_ *exec.Cmd, foreign bool) error {
	if foreign {
		return errors.ErrUnsupported
	}
	return nil
}

func terminate(p *Process) error { return p.cmd.Process.Kill() }

func awaitLeader(int) {}

func (p *Process) killGroup() error { return errors.ErrUnsupported }

func signalGroup(int, os.Signal) error { return errors.ErrUnsupported }

// Raise is for Linux.
func Raise(syscall.Signal) error { return errors.ErrUnsupported }

// AwaitFrozen is for Linux.
func (p *Process) AwaitFrozen(context.Context) error { return errors.ErrUnsupported }

// Freeze is for Linux.
func (p *Process) Freeze(context.Context) error { return errors.ErrUnsupported }

// Thaw is for Linux.
func (p *Process) Thaw() error { return errors.ErrUnsupported }

//go:build !unix && !windows

package peer

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/seed-7265657e/usher/internal/sock"
)

var errUnsupported = fmt.Errorf("identify the peer process: %w on this system", errors.ErrUnsupported)

// TrustedPID answers 0: unknown.
func TrustedPID(syscall.Conn) int { return 0 }

// Means says how processes are held on to: not at all.
func Means() string { return "none" }

// Process is a handle on one process; none can be opened on this system yet.
type Process struct{}

// OpenProcess answers errors.ErrUnsupported.
func OpenProcess(syscall.Conn) (*Process, error) { return nil, errUnsupported }

// OpenPID answers errors.ErrUnsupported.
func OpenPID(int) (*Process, error) { return nil, errUnsupported }

// OpenChild answers errors.ErrUnsupported.
func OpenChild(int) (*Process, error) { return nil, errUnsupported }

// Resume answers errors.ErrUnsupported.
func Resume(fd *sock.FD) (*Process, error) {
	fd.Close()
	return nil, errUnsupported
}

// Share answers errors.ErrUnsupported.
func (*Process) Share() (*sock.FD, error) { return nil, errUnsupported }

// EndGroup answers errors.ErrUnsupported.
func (*Process) EndGroup(bool) error { return errUnsupported }

// Lacks names what Linux has for this package and this system has not, for people.
func Lacks() []string { return nil }

// PID returns 0.
func (*Process) PID() int { return 0 }

// Alive returns false.
func (*Process) Alive() bool { return false }

// Wait answers errors.ErrUnsupported.
func (*Process) Wait(context.Context) error { return errUnsupported }

// Executable answers errors.ErrUnsupported.
func (*Process) Executable() (path, link string, err error) { return "", "", errUnsupported }

// Confirm answers errors.ErrUnsupported.
func (*Process) Confirm(string) error { return errUnsupported }

// Close does nothing.
func (*Process) Close() {}

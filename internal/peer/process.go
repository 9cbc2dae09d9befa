//go:build unix || windows

package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/seed-7265657e/usher/internal/sock"
)

// Process is a handle on one process: its pid can't be recycled under it. It is
// safe for concurrent use.
//
// The handle is a pidfd (Linux 5.3). Where the kernel has none, or a filter
// refuses it, it is the process' open stat file, which goes with the process as
// well, but has to be asked again and again whether it has. Other systems have handles of
// their own; Windows' is one.
type Process struct {
	pid int
	handle

	watch sync.Once     // starts the goroutine that sets err and closes gone
	gone  chan struct{} // closed at exit, or by Close
	err   error         // why gone was closed: nil for exit; read after gone
}

// handle is what the kernel holds on to a process by.
type handle interface {
	// exited reports whether the process has ended; false with an error when
	// that can't be told.
	exited() (bool, error)
	// awaitExit returns nil when the process has ended, os.ErrClosed after close.
	awaitExit() error
	// share returns a descriptor for another process, which the caller owns;
	// errors.ErrUnsupported where none does.
	share() (*sock.FD, error)
	close()
}

// OpenChild is OpenPID for a child that has not been reaped, which has its pid until then
// even where it has ended already.
func OpenChild(pid int) (*Process, error) {
	p, err := OpenPID(pid)
	if errors.Is(err, syscall.ESRCH) {
		return newProcess(pid, new(ended), nil)
	}
	return p, err
}

// ended is a process that has ended.
type ended struct{ closed atomic.Bool }

func (e *ended) exited() (bool, error) {
	if e.closed.Load() {
		return false, os.ErrClosed
	}
	return true, nil
}

func (e *ended) awaitExit() error {
	_, err := e.exited()
	return err
}

func (e *ended) share() (*sock.FD, error) { return nil, errors.ErrUnsupported }

func (e *ended) close() { e.closed.Store(true) }

func newProcess(pid int, h handle, err error) (*Process, error) {
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	return &Process{pid: pid, handle: h, gone: make(chan struct{})}, nil
}

// Share returns a descriptor from which another process can Resume, which the caller owns.
// The error is errors.ErrUnsupported where processes are held on to otherwise.
func (p *Process) Share() (*sock.FD, error) { return p.share() }

// EndGroup asks the group that the process leads to end or, with now, ends it, also what is left
// of it behind the leader's end (before Linux 6.9: not that), and never another that has got the
// number since. Errors: os.ErrProcessDone where nobody is left, and errors.ErrUnsupported where
// processes are held on to otherwise than by what can be passed on.
func (p *Process) EndGroup(now bool) error {
	h, ok := p.handle.(interface{ endGroup(pid int, now bool) error })
	if !ok {
		return errors.ErrUnsupported
	}
	return h.endGroup(p.pid, now)
}

// PID returns the process' id. It names this process only while Alive.
func (p *Process) PID() int { return p.pid }

// Alive reports whether the process has not been seen to end. It is false after
// Close.
func (p *Process) Alive() bool {
	ended, err := p.exited()
	return !ended && !errors.Is(err, os.ErrClosed)
}

// Wait returns nil when the process has exited, ctx's error when ctx ends first,
// and os.ErrClosed after Close. The first Wait starts a goroutine that lives
// until the process exits or Close is called.
func (p *Process) Wait(ctx context.Context) error {
	p.watch.Do(func() {
		go func() {
			defer close(p.gone)
			p.err = p.awaitExit()
		}()
	})
	select {
	case <-p.gone:
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Confirm is nil when what was read through the link that Executable returned with path
// counts, and os.ErrProcessDone when the process had ended meanwhile, and the link may have
// led to another's file.
func (p *Process) Confirm(path string) error {
	if !p.Alive() {
		return os.ErrProcessDone
	}
	return p.stillRuns(path)
}

// Close closes the handle. A Wait under way returns. It may be called again.
func (p *Process) Close() { p.close() }

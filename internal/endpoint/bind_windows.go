package endpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/sock"
)

// fullPasses: a server of a pipe may have one instance of it alone that waits, and makes the
// next one when that is taken.
const fullPasses = true

// CheckIsSocket returns nil where path is the name of a pipe of this machine.
func CheckIsSocket(path string) error { return sock.CheckName(path) }

// bound is what a Binding has of its pipe.
type bound struct {
	pipe  *sock.Listener
	place *claim.Claim // offered to a successor, or nil; guarded by mu
}

// Accepting accepts from the pipe, which the Binding keeps open, without waiting.
func (b *Binding) Accepting() (*sock.Listener, error) { return b.pipe, nil }

// check is nil: nobody removes the name of a pipe.
func (b *Binding) check() error { return nil }

func (b *Binding) removeName() error { return b.pipe.Shutdown() }

func (b *Binding) closeListener() error {
	if b.place != nil {
		b.place.Close()
	}
	return b.pipe.Close()
}

// bind is Bind for a named pipe. A connection that was handed over keeps the pipe's name in
// use when its broker has ended, so it is not by that name that another owner is known, but
// by a second pipe, which nobody else ever has.
func bind(path string, _ socketKind) (*Binding, error) {
	if err := CheckLength(sock.OwnerName(path)); err != nil {
		return nil, err
	}
	held, err := sock.HoldName(path)
	if inUse(err) {
		return nil, &InUseError{Path: path, PID: server(path)}
	}
	if err != nil {
		return nil, err
	}
	lock := &nameLock{held}
	pipe, err := sock.Listen(path, true)
	if inUse(err) { // by connections of an owner that has ended; both ends of a new one look at each other's user
		pipe, err = sock.Listen(path, false)
	}
	if inUse(err) {
		err = &InUseError{Path: path}
	}
	if err != nil {
		return nil, errors.Join(err, lock.release())
	}
	return &Binding{Path: path, bound: bound{pipe: pipe}, lock: lock}, nil
}

func inUse(err error) bool { return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EAGAIN) }

// server is the process that serves path; 0 where it can't be asked. It is for people alone.
func server(path string) int {
	cred, err := probe(path)
	if err != nil {
		return 0
	}
	return cred.PID
}

// nameLock is a pipe that its owner hands to nobody.
type nameLock struct{ held *sock.FD }

func (l *nameLock) release() error {
	if l != nil {
		l.held.Close()
	}
	return nil
}

func adopt(string, *net.UnixListener, bool) (*Binding, error) {
	return nil, fmt.Errorf("a listener that another process has made: %w", errors.ErrUnsupported)
}

func blocking(*net.UnixListener) (*os.File, error) {
	return nil, fmt.Errorf("a pipe for another process: %w", errors.ErrUnsupported)
}

func succeed(string, *net.UnixListener) (*Binding, error) { return nil, errors.ErrUnsupported }

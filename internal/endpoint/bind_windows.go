package endpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"github.com/seed-7265657e/usher/internal/sock"
)

// CheckIsSocket returns nil where path is the name of a pipe of this machine.
func CheckIsSocket(path string) error { return sock.CheckName(path) }

// bound is what a Binding has of its pipe.
type bound struct{ pipe *sock.Listener }

// Accepting accepts from the pipe, which the Binding keeps open, without waiting.
func (b *Binding) Accepting() (*sock.Listener, error) { return b.pipe, nil }

// check is nil: nobody removes the name of a pipe.
func (b *Binding) check() error { return nil }

func (b *Binding) removeName() error { return b.pipe.Shutdown() }

func (b *Binding) closeListener() error { return b.pipe.Close() }

// ownerSuffix is behind the name of a broker's pipe in that of the one that its owner keeps.
const ownerSuffix = "-owner"

// bind is Bind for a named pipe. A connection that was handed over keeps the pipe's name in
// use when its broker has ended, so it is not by that name that another broker is known, but
// by a second pipe, which its owner hands to nobody.
func bind(path string, kind socketKind) (*Binding, error) {
	if kind.descriptors {
		return nil, fmt.Errorf("a pipe for handles that others send: %w", errors.ErrUnsupported)
	}
	if err := CheckLength(path + ownerSuffix); err != nil {
		return nil, err
	}
	var lock *nameLock
	if kind.contested {
		held, err := sock.HoldName(path + ownerSuffix)
		if inUse(err) {
			return nil, &InUseError{Path: path, PID: holder(path + ownerSuffix)}
		}
		if err != nil {
			return nil, err
		}
		lock = &nameLock{held}
	}
	pipe, err := sock.Listen(path, true)
	if kind.contested && inUse(err) { // connections of a broker that has ended; clients and broker check each other's user
		pipe, err = sock.Listen(path, false)
	}
	if inUse(err) {
		err = &InUseError{Path: path}
	}
	if err != nil {
		return nil, errors.Join(err, lock.release())
	}
	return &Binding{Path: path, bound: bound{pipe}, lock: lock}, nil
}

func inUse(err error) bool { return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EAGAIN) }

// holder is the process that holds a name; 0 where it can't be asked.
func holder(path string) int {
	c, err := sock.Dial(path)
	if err != nil {
		return 0
	}
	defer func() { _ = c.Close() }()
	cred, _ := sock.PeerOf(c) // for people alone
	return cred.PID
}

// nameLock is a pipe that its holder hands to nobody.
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

func blocking(*net.UnixListener) (*os.File, error) { return nil, errors.ErrUnsupported }

func succeed(string, *net.UnixListener) (*Binding, error) { return nil, errors.ErrUnsupported }

func (*Binding) ownLock(lock *sock.FD) { lock.Close() }

func (*Binding) leaveLock() {}

// ShareLock answers errors.ErrUnsupported.
func (*Binding) ShareLock() (*sock.FD, error) { return nil, errors.ErrUnsupported }

// ListenAgain does nothing: no socket is taken over on this system.
func (*Binding) ListenAgain() error { return nil }

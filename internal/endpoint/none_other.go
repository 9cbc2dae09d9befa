//go:build !unix && !windows

package endpoint

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/seed-7265657e/usher/internal/sock"
)

func bind(path string, _ socketKind) (*Binding, error) {
	return nil, fmt.Errorf("serve %s: %w", path, errors.ErrUnsupported)
}

func adopt(path string, _ *net.UnixListener, _ bool) (*Binding, error) {
	return bind(path, socketKind{})
}

func succeed(path string, _ *net.UnixListener) (*Binding, error) { return bind(path, socketKind{}) }

func blocking(*net.UnixListener) (*os.File, error) { return nil, errors.ErrUnsupported }

const fullPasses = false

// CheckIsSocket answers errors.ErrUnsupported.
func CheckIsSocket(path string) error { return fmt.Errorf("%s: %w", path, errors.ErrUnsupported) }

// Accepting answers errors.ErrUnsupported.
func (*Binding) Accepting() (*sock.Listener, error) { return nil, errors.ErrUnsupported }

// bound has nothing to remember.
type bound struct{}

func (*Binding) check() error { return errors.ErrUnsupported }

func (*Binding) removeName() error { return nil }

func (*Binding) closeListener() error { return nil }

// nameLock has no work to do where nothing is bound.
type nameLock struct{}

func (*nameLock) release() error { return nil }

// SharePlace answers errors.ErrUnsupported.
func (*Binding) SharePlace() (*sock.FD, error) { return nil, errors.ErrUnsupported }

func takePlace(path string, place *sock.FD) (*Binding, error) {
	place.Close()
	return bind(path, socketKind{})
}

// Withdraw is true: there is nothing to take back.
func (*Binding) Withdraw() bool { return true }

// ClaimPlace answers errors.ErrUnsupported.
func (*Binding) ClaimPlace(*sock.FD) error { return errors.ErrUnsupported }

// Rest is nil: nobody has come.
func (*Binding) Rest() []*sock.Conn { return nil }

func (*Binding) own(*sock.FD) {}

func (*Binding) leaveLock() {}

// ShareLock answers errors.ErrUnsupported.
func (*Binding) ShareLock() (*sock.FD, error) { return nil, errors.ErrUnsupported }

// ListenAgain does nothing: no socket is taken over on this system.
func (*Binding) ListenAgain() error { return nil }

// StartLock can't be had on this system.
type StartLock struct{}

// LockStart answers errors.ErrUnsupported.
func LockStart(_ context.Context, path string) (*StartLock, error) {
	return nil, fmt.Errorf("start a broker at %s: %w", path, errors.ErrUnsupported)
}

// Unlock does nothing.
func (*StartLock) Unlock() error { return nil }

// CheckPrivate answers errors.ErrUnsupported: who may read dir can't be told.
func CheckPrivate(dir string) error {
	return fmt.Errorf("whose directory %s is: %w", dir, errors.ErrUnsupported)
}

// EnsurePrivate answers as CheckPrivate does.
func EnsurePrivate(dir string) error { return CheckPrivate(dir) }

// EnsureState makes the directory of a broker's or a tool's logs with what is missing above
// it.
func EnsureState(dir string) error { return os.MkdirAll(dir, 0o700) }

// RemoveDead does nothing: nothing is bound on this system.
func RemoveDead(string) {}

// BackendsLive is false: none can be asked.
func BackendsLive() bool { return false }

// RemoveDeadBackends does nothing.
func RemoveDeadBackends() int { return 0 }

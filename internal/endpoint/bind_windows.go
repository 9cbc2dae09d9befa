package endpoint

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/seed-7265657e/usher/internal/sock"
)

func bind(string, socketKind) (*Binding, error) {
	return nil, fmt.Errorf("named pipes can't be served yet: %w", errors.ErrUnsupported)
}

func adopt(path string, _ *net.UnixListener, _ bool) (*Binding, error) {
	return bind(path, socketKind{})
}

func blocking(*net.UnixListener) (*os.File, error) { return nil, errors.ErrUnsupported }

// nameLock has no work to do where nothing is bound.
type nameLock struct{}

func (*nameLock) release() error { return nil }

func succeed(string, *net.UnixListener) (*Binding, error) { return nil, errors.ErrUnsupported }

func (*Binding) ownLock(lock *sock.FD) { lock.Close() }

func (*Binding) leaveLock() {}

// ShareLock answers errors.ErrUnsupported.
func (*Binding) ShareLock() (*sock.FD, error) { return nil, errors.ErrUnsupported }

// ListenAgain does nothing: no socket is taken over on this system.
func (*Binding) ListenAgain() error { return nil }

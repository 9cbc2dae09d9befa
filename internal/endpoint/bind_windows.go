package endpoint

import (
	"errors"
	"fmt"
	"net"
	"os"
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

// ListenAgain does nothing: no socket is taken over on this system.
func (*Binding) ListenAgain() error { return nil }

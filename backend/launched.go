package backend

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/identity"
	"github.com/seed-7265657e/usher/internal/sock"
)

// A v1 broker that starts a backend chooses its pipe, which it binds and passes on, or has
// the backend bind; and it asks at once who serves there (spec 03 §11).

// bindPipe binds the backend's own pipe, or takes over the one that this process was
// started with. The first Listener of the process gets that, and no child does.
func (l *Listener) bindPipe() (*endpoint.Binding, error) {
	path := takeVariable(endpoint.BackendPipeVariable)
	number, passed := os.LookupEnv(endpoint.ListenerVariable)
	if path != "" {
		l.opts.Pipe = path
		l.wg.Go(func() { _, _, _ = identity.Self("", path) }) // the broker waits 500 ms for it, and it takes a while
	}
	if !passed {
		return endpoint.BindBackend(l.opts.Pipe)
	}
	_ = os.Unsetenv(endpoint.ListenerVariable)
	binding, err := adoptPipe(path, number)
	if err != nil {
		return nil, fmt.Errorf("%s is %q: %w", endpoint.ListenerVariable, number, err)
	}
	return binding, nil
}

// adoptPipe takes over the listening socket of a descriptor.
func adoptPipe(path, number string) (*endpoint.Binding, error) {
	if path == "" {
		return nil, fmt.Errorf("%s is not set, and says where it listens", endpoint.BackendPipeVariable)
	}
	fd, err := sock.Inherited(number)
	if err != nil {
		return nil, err
	}
	file, err := fd.File("backend pipe")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	l, err := net.FileListener(file)
	if err != nil {
		return nil, err
	}
	listener, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("it is no Unix socket, but listens at %v", l.Addr()), l.Close())
	}
	binding, err := endpoint.AdoptBackend(path, listener)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return binding, nil
}

func takeVariable(name string) string {
	value := os.Getenv(name)
	_ = os.Unsetenv(name)
	return value
}

package broker

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/identity"
	"github.com/seed-7265657e/usher/internal/transport"
)

// This file is the start of an instance that knows nothing of usher (spec 03 §11). It
// inherits a socket that the broker has bound; the broker connects to it at once, asks who
// serves there, and waits for the answer for as long as a start may take. From then on
// clients are told that pipe, or handed over by the v1 exchange where the definition names
// an endpoint for that.
//
// It has no channel, so nothing says when it is idle; and where the broker ends, it lives
// on without one.

// listenV1 binds the pipe of an instance that is about to be started.
func listenV1(instance string) (inheritance, error) {
	binding, listener, err := endpoint.BindForChild()
	if err != nil {
		return inheritance{}, err
	}
	return inheritance{
		files: []*os.File{listener},
		env: []string{
			endpoint.BackendPipeVariable + "=" + binding.Path,
			endpoint.NamespaceVariable + "=" + instance,
			endpoint.ListenerVariable + "=3",
		},
		pipe: binding.Path,
		release: func(started bool) {
			_ = listener.Close()
			if started {
				_ = binding.Leave()
			} else {
				_ = binding.Close()
			}
		},
	}, nil
}

// askV1 has an instance that was started asked who it is.
func (s *server) askV1(starting *starting, l launched, endpoint string) {
	e, deadline := starting.entry, starting.deadline
	if endpoint != "" {
		e.Handle.v1 = &transport.V1{Endpoint: endpoint, PID: e.PID}
	}
	s.jobs.wg.Go(func() {
		ctx, cancel := context.WithDeadline(s.jobs.work, deadline)
		defer cancel()
		err := probeV1(ctx, l)
		if err == nil {
			s.jobs.post(func() { s.becameReady(e, l.pipe) })
			return
		}
		grace, cancel := context.WithTimeout(ctx, exitGrace)
		defer cancel()
		if l.Handle().Wait(grace) == nil || ctx.Err() != nil {
			return // how it has ended says more; and who is late is ended anyway
		}
		s.jobs.post(func() { s.notProven(starting, err) })
	})
}

// probeV1 returns nil when the process that was started answers for itself.
func probeV1(ctx context.Context, l launched) error {
	conn, err := endpoint.Dial(ctx, l.pipe)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	said, err := identity.Await(ctx, conn)
	switch {
	case err != nil:
		return err
	case int(said.Pid) != l.PID():
		return fmt.Errorf("it says that it is process %d", said.Pid)
	case !bytes.Equal(said.ExeHash, l.program.build[:]):
		return fmt.Errorf("it does not run the executable that it was started from")
	case said.IpcEndpoint.Path != l.pipe:
		return fmt.Errorf("it says that it serves %s", said.IpcEndpoint.Path)
	}
	return nil
}

package broker

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/identity"
	"github.com/seed-7265657e/usher/internal/names"
	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/registry"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/transport"
	"github.com/seed-7265657e/usher/internal/wait"
)

// staticRetry is how often a static backend that is not there is asked for.
const staticRetry = time.Second

// watchStatic keeps a v1 backend in the registry while its process lives: found
// by an identity probe of its pipe, verified, watched by pidfd, asked for again.
//
// It is a goroutine of its own, which probes and waits; what it finds is the loop's.
func (s *server) watchStatic(ctx context.Context, static StaticBackend) {
	said := ""
	for ctx.Err() == nil {
		e, err := s.files.probeStatic(ctx, static)
		if err != nil {
			s.jobs.post(func() { s.pressure.failed(err) })
			if said != err.Error() {
				said = err.Error()
				missing := event.StaticMissing{Service: static.Service, Pipe: static.Pipe, Problem: said}
				s.jobs.post(func() { s.emit(missing) })
			}
			wait.For(ctx, staticRetry)
			continue
		}
		said = ""
		s.jobs.post(func() {
			s.backends.Add(e)
			s.emit(event.StaticFound{Backend: known(e)})
			s.ready(e.Key)
		})
		_ = e.Handle.process.Wait(ctx)
		s.jobs.post(func() {
			s.backends.Remove(e)
			s.waiting.expect(e.Key, time.Now())
			e.Handle.process.Close()
		})
	}
}

// probeStatic asks the endpoint who serves it and makes sure that the answer is
// true: the process that listens there is the one named, and runs what it says.
func (f files) probeStatic(ctx context.Context, s StaticBackend) (*entry, error) {
	if err := names.Version(s.Version); err != nil {
		return nil, err
	}
	hashing := ctx // which may take longer than an answer
	definition, err := service.Load(f.dir, s.Service)
	if err != nil {
		return nil, fmt.Errorf("service %q: %w", s.Service, err)
	}
	instance, err := definition.Instance()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, staticRetry)
	defer cancel()
	conn, err := endpoint.Dial(ctx, s.Pipe)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	process, err := peer.OpenProcess(conn)
	if err != nil {
		return nil, err
	}
	said, err := identity.Fetch(ctx, conn)
	if err == nil && int(said.Pid) != process.PID() {
		err = fmt.Errorf("endpoint is served by process %d but names process %d", process.PID(), said.Pid)
	}
	path, hash, exeErr := f.executable(hashing, process)
	switch {
	case err != nil:
	case exeErr != nil:
		err = exeErr
	case !bytes.Equal(said.ExeHash, hash[:]):
		err = fmt.Errorf("process %d does not run the executable it names", process.PID())
	}
	if err != nil {
		process.Close()
		return nil, err
	}
	h := newBackend(process, nil)
	if s.HandoffEndpoint != "" {
		h.v1 = &transport.V1{Endpoint: s.HandoffEndpoint, PID: process.PID()}
	}
	return &entry{
		Key: registry.Key{Instance: instance.String(), Service: s.Service, Version: s.Version},
		PID: process.PID(), ExePath: path, ExeHash: hash, Pipe: s.Pipe, Since: time.Now(), Handle: h,
	}, nil
}

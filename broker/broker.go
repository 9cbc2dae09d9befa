package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/loglimit"
	"github.com/seed-7265657e/usher/internal/watch"
)

// Broker serves one socket.
//
//	listening ──Serve──▶ serving ──ctx ends, SHUTDOWN, socket replaced──▶ draining ──▶ closed
//
// While draining every new Hello is refused with SHUTTING_DOWN, and connections
// under way get their verdict.
type Broker struct {
	server *server
	lines  *loglimit.Handler // the log's
}

// Listen binds the broker's socket. The caller calls Serve, or Close.
//
// Errors: *endpoint.InUseError when another broker serves there, and the other
// errors of endpoint.Bind, or of endpoint.Adopt where there is a Listener, each saying
// what to do.
func Listen(opts Options) (_ *Broker, err error) {
	defer func() {
		if err != nil {
			opts.closeListener(err)
		}
	}()
	if err := opts.complete(); err != nil {
		return nil, err
	}
	binding, err := opts.bind()
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	if err := endpoint.CheckBackendRoom(); err != nil {
		opts.Logger.Warn("backends that choose no pipe of their own can't serve here", "error", err)
	}
	lines := loglimit.New(opts.Logger.Handler())
	s, err := newServer(opts, binding, event.NewLog(slog.New(lines)))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("broker: %w", err), binding.Close())
	}
	return &Broker{server: s, lines: lines}, nil
}

// Socket returns the path the broker listens on.
func (b *Broker) Socket() string { return b.server.binding.Path }

// Close gives the socket up without having served. Serve calls it by itself.
func (b *Broker) Close() error {
	b.server.closeLoop()
	if p := b.server.opts.Predecessor; p != nil {
		_ = p.channel.Close()
	}
	return b.server.binding.Close()
}

var (
	errShutdown = errors.New("told to shut down")
	// ErrReplaced says that another file took the socket's place while the broker
	// ran.
	ErrReplaced = endpoint.ErrReplaced
)

// Serve serves until ctx ends, an admin client sends SHUTDOWN, or the socket
// file is removed or replaced; then it drains and returns. The error is nil
// after ctx or SHUTDOWN, ErrReplaced after the third. It may be called once.
//
// When another broker has taken this one's place (Upgrade), it returns as soon as no connection
// is relayed here, or joined to the pipes of its process, any more; or when ctx ends, and these
// with it.
func (b *Broker) Serve(ctx context.Context) error {
	s, told := b.server, ctx
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	// Backends stay reachable while connections drain.
	work, endWork := context.WithCancel(context.WithoutCancel(ctx))
	defer endWork()
	s.jobs.serving, s.jobs.work, s.shutDown = ctx, work, stop
	defer s.closeLoop()

	if endpoint.BackendsLive() {
		s.orphans.by = s.started.Add(reunion)
		s.loop.WakeAt(s.orphans.by) // the loop does not run yet
	}
	if s.opts.Predecessor != nil {
		s.jobs.wg.Go(s.takeOver)
		stop := context.AfterFunc(work, s.opts.Predecessor.channel.End)
		defer stop()
	}
	sockets, noSockets := newSocketWatch() // before the loop runs: then who is served knows what the broker has open
	s.jobs.wg.Go(func() { s.watchSocket(ctx, sockets, noSockets) })
	if !s.opts.OwnBuilds {
		files, noFiles := watch.NewWaiter()
		s.jobs.readers.Go(func() { s.watchPlain(ctx, files, noFiles) })
	}
	s.jobs.wg.Go(s.run)
	static, endStatic := context.WithCancel(work)
	defer endStatic()
	for _, backend := range s.opts.Static {
		s.jobs.wg.Go(func() { s.watchStatic(static, backend) })
	}
	s.jobs.wg.Go(func() { // bounded, and nobody waits for it
		if n := endpoint.RemoveDeadBackends(); n > 0 {
			s.jobs.post(func() { s.emit(event.PipesRemoved{Pipes: n}) })
		}
	})

	<-ctx.Done()
	s.beginDraining(context.Cause(ctx))
	err := s.drainAll(context.Cause(ctx))
	endStatic() // its successor asks for them
	s.awaitUnjoined(told)
	endWork()
	s.jobs.asOwner(s.unloop)
	if !s.jobs.asOwner(s.closeBackends) { // the loop has failed
		s.abandon()
	}
	if !s.jobs.awaitReaders() {
		s.jobs.asOwner(func() { s.emit(event.FilesHang{}) })
	}
	s.loop.Stop()
	s.jobs.finish(s.abandonReaders)
	s.closeGiven()
	s.emit(event.Stopped{})
	b.lines.Flush(context.WithoutCancel(ctx))
	return err
}

// run is the loop's goroutine.
func (s *server) run() {
	s.emit(event.Serving{Socket: s.binding.Path, Definitions: s.opts.DefinitionDir})
	if s.opts.Predecessor == nil {
		s.begin(0, nil)
	}
	if err := s.loop.Run(); err != nil {
		s.shutDown(err) // first: behind the loop's end it is Serve that takes what is posted
		s.jobs.post(func() { s.emit(event.LoopFailed{Problem: err.Error()}) })
	}
}

// closeLoop frees the loop, the watch on files and the file of events, when nothing runs
// any more.
func (s *server) closeLoop() {
	s.loop.Close()
	s.definitions.close()
	if s.successor != nil {
		_ = s.successor.channel.Close()
	}
	s.logs.close()
	for service := range s.kept {
		s.dropKept(service)
	}
	if s.events != nil {
		s.events.Close(eventsPatience)
		s.events = nil
	}
}

// eventsPatience bounds the wait for the last events to be written.
const eventsPatience = time.Second

// drainAll gives connections under way their verdict, and those still in the
// kernel's queue a refusal, for at most DrainTimeout. It is Serve's.
func (s *server) drainAll(cause error) error {
	deadline := time.NewTimer(s.drainTimeout(cause))
	defer deadline.Stop()
	s.unlinkPlain()
	if err := s.binding.Unlink(); err != nil { // else nobody new can connect from here on
		s.jobs.asOwner(func() { s.emit(event.SocketKept{Problem: err.Error()}) })
	}
	var empty <-chan struct{}
	looping := s.jobs.asOwner(func() { empty = s.drain(time.Now().Add(helloGrace)) })
	s.closePlain()
	if looping {
		select {
		case <-empty:
		case <-deadline.C:
			s.jobs.asOwner(func() {
				s.emit(event.DrainTimeout{Connections: s.conns.open})
				s.abandon()
			})
		}
	}
	closeErr := s.binding.Close()
	if errors.Is(cause, ErrReplaced) {
		return cause
	}
	return closeErr // which says so when the name could not be removed even then
}

// helloGrace is how long a connection whose Hello has not arrived may still send
// it once draining has begun.
const helloGrace = 200 * time.Millisecond

// drainTimeout is an admin client's drain_deadline_ms, or the option.
func (s *server) drainTimeout(cause error) time.Duration {
	var req *shutdownRequest
	if errors.As(cause, &req) && req.deadline > 0 {
		return min(req.deadline, s.opts.DrainTimeout)
	}
	return s.opts.DrainTimeout
}

// shutdownRequest is the SHUTDOWN verb as a cause.
type shutdownRequest struct{ deadline time.Duration }

func (*shutdownRequest) Error() string        { return errShutdown.Error() + " by an admin client" }
func (*shutdownRequest) Is(target error) bool { return target == errShutdown }

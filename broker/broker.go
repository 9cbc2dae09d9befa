package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/admin"
	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/filehash"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/loglimit"
	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/registry"
)

// Broker is one broker process' server.
//
//	listening ──Serve──▶ serving ──ctx ends, SHUTDOWN, socket replaced──▶ draining ──▶ closed
//
// While draining every new Hello is refused with SHUTTING_DOWN, and connections
// under way get their verdict.
type Broker struct {
	opts    Options
	log     *slog.Logger // through lines
	lines   *loglimit.Handler
	binding *endpoint.Binding
	started time.Time

	// For the broker's whole life.
	backends registry.Registry[*backend]
	hashes   filehash.Cache
	memory   memory
	limiter  *hello.Limiter

	// The loop's.
	policy   *handoff.Policy
	handoffs *handoff.Table   // in flight
	now      func() time.Time // the handoffs' clock: time.Now unless a test replaces it

	pressure   pressure
	admission  admission
	attempts   attempts
	counters   counters
	lastConnID atomic.Uint64

	draining atomic.Bool
	stop     context.CancelCauseFunc // ends Serve; set by Serve
	stopSet  chan struct{}           // closed when stop is set
	serving  context.Context         // ends when draining begins; set by Serve
	work     context.Context         // ends with Serve; set by Serve
	front    *front
	system   admin.System
	uid      int  // whose clients and backends are served
	debug    bool // somebody reads the debug log

	conns connections    // without a verdict
	wg    sync.WaitGroup // every goroutine but Serve's own, and
	// readers, which read files: a file system may never answer, and nobody waits long.
	readers sync.WaitGroup
}

// Listen binds the broker's socket. The caller calls Serve, or Close.
//
// Errors: *endpoint.InUseError when another broker serves there, and the other
// errors of endpoint.Bind, each saying what to do.
func Listen(opts Options) (*Broker, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	binding, err := endpoint.Bind(opts.Socket)
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	if err := endpoint.CheckBackendRoom(); err != nil {
		opts.Logger.Warn("backends that choose no pipe of their own can't serve here", "error", err)
	}
	lines := loglimit.New(opts.Logger.Handler())
	b := &Broker{
		opts:      opts,
		log:       slog.New(lines),
		lines:     lines,
		binding:   binding,
		started:   time.Now(),
		memory:    memory{dir: opts.DefinitionDir},
		limiter:   hello.NewLimiter(opts.HelloRate, hello.DefaultRateWindow),
		policy:    handoff.NewPolicy(handoff.DefaultPolicyConfig()),
		handoffs:  handoff.NewTable(handoffConfig(opts)),
		now:       time.Now,
		admission: admission{total: opts.MaxHandshakes, perPeer: opts.MaxHandshakesPerPeer},
		stopSet:   make(chan struct{}),
		system:    admin.System{Processes: peer.Means(), Claims: claim.Means()},
		uid:       os.Geteuid(),
		debug:     opts.Logger.Enabled(context.Background(), slog.LevelDebug),
	}
	if err := b.memory.open(); err != nil {
		b.log.Info("no watch on files: each Hello asks stat", "error", err)
	}
	if b.front, err = newFront(b); err != nil {
		b.memory.close()
		return nil, errors.Join(fmt.Errorf("broker: %w", err), binding.Close())
	}
	return b, nil
}

// handoffConfig lets as many attempts be pending as handoffs may be in flight.
func handoffConfig(opts Options) handoff.Config {
	config := handoff.DefaultConfig()
	config.MaxPending = max(config.MaxPending, opts.MaxHandshakes)
	return config
}

// Socket returns the path the broker listens on.
func (b *Broker) Socket() string { return b.binding.Path }

// Close gives the socket up without having served. Serve calls it by itself.
func (b *Broker) Close() error {
	b.front.loop.Close()
	b.memory.close()
	return b.binding.Close()
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
func (b *Broker) Serve(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	b.stop = stop
	close(b.stopSet)

	front := b.front
	defer func() {
		front.loop.Close()
		b.memory.close()
	}()
	// Backends stay reachable while connections drain.
	work, endWork := context.WithCancel(context.WithoutCancel(ctx))
	defer endWork()
	b.serving, b.work = ctx, work
	b.wg.Go(front.run)
	b.wg.Go(func() { b.watchSocket(ctx) })
	for _, s := range b.opts.Static {
		b.wg.Go(func() { b.watchStatic(work, s) })
	}
	b.wg.Go(func() { // bounded, and nobody waits for it
		if n := endpoint.RemoveDeadBackends(); n > 0 {
			b.log.Info("removed the pipes of backends that are gone", "pipes", n)
		}
	})
	b.log.Info("serving", "socket", b.Socket(), "definitions", b.opts.DefinitionDir)

	<-ctx.Done()
	err := front.drainAll(ctx)
	endWork()
	if !front.loop.Post(front.closeBackends) { // the loop has failed: nobody else runs what is its
		front.closeBackends()
		front.abandon()
	}
	b.awaitReaders()
	front.loop.Stop()
	b.wg.Wait()
	front.loop.Close()
	front.runLate()
	front.endReaders()
	b.log.Info("stopped")
	b.lines.Flush(context.WithoutCancel(ctx))
	return err
}

// awaitReaders gives those who read files time to come back to the loop.
func (b *Broker) awaitReaders() {
	back := make(chan struct{})
	go func() { // until the last file system has answered
		b.readers.Wait()
		close(back)
	}()
	timer := time.NewTimer(readGrace)
	defer timer.Stop()
	select {
	case <-back:
	case <-timer.C:
		b.log.Warn("a file system does not answer: ending without those who wait for it")
	}
}

// shutDown makes Serve drain and return. It may be called at any time.
func (b *Broker) shutDown(cause error) {
	<-b.stopSet
	b.stop(cause)
}

// drainAll gives connections under way their verdict, and those still in the
// kernel's queue a refusal, for at most DrainTimeout.
func (f *front) drainAll(ctx context.Context) error {
	cause := context.Cause(ctx)
	deadline := time.Now().Add(f.drainTimeout(cause))
	f.log.Info("draining", "cause", cause, "connections", f.conns.count())
	f.draining.Store(true)
	if err := f.binding.Unlink(); err != nil { // else nobody new can connect from here on
		f.log.Warn("the socket's name is still there; connections to it wait in vain until the end", "error", err)
	}
	loops := f.loop.Post(func() { f.drain(time.Now().Add(helloGrace)) })
	if loops {
		<-f.drained
	}
	if loops && !f.conns.wait(deadline) {
		f.log.Warn("drain timeout: closing connections without a verdict", "connections", f.conns.count())
		f.loop.Post(f.abandon)
	}
	closeErr := f.binding.Close()
	if errors.Is(cause, ErrReplaced) {
		return cause
	}
	return closeErr // which says so when the name could not be removed even then
}

// helloGrace is how long a connection whose Hello has not arrived may still send
// it once draining has begun.
const helloGrace = 200 * time.Millisecond

// drainTimeout is an admin client's drain_deadline_ms, or the option.
func (b *Broker) drainTimeout(cause error) time.Duration {
	var req *shutdownRequest
	if errors.As(cause, &req) && req.deadline > 0 {
		return min(req.deadline, b.opts.DrainTimeout)
	}
	return b.opts.DrainTimeout
}

// shutdownRequest is the SHUTDOWN verb as a cause.
type shutdownRequest struct{ deadline time.Duration }

func (*shutdownRequest) Error() string        { return errShutdown.Error() + " by an admin client" }
func (*shutdownRequest) Is(target error) bool { return target == errShutdown }

// watchSocket looks every second whether the socket's name still leads here. If
// it certainly does not, nobody can reach this broker and a successor may be
// starting: it ends. A name that can't be looked at just now proves nothing.
func (b *Broker) watchSocket(ctx context.Context) {
	ticker := time.NewTicker(socketCheck)
	defer ticker.Stop()
	unknown := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := b.binding.Check()
		switch {
		case errors.Is(err, ErrReplaced):
			b.log.Error("socket file removed or replaced: stopping", "error", err)
			b.shutDown(err)
			return
		case err != nil && !unknown:
			b.log.Warn("the socket's name can't be looked at; serving on", "error", err)
		case err == nil && unknown:
			b.log.Info("the socket's name leads here again")
		}
		unknown = err != nil
	}
}

const socketCheck = time.Second

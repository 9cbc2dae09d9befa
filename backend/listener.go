package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/loop"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wire"
)

// Listener is a backend's source of connections. It implements net.Listener and
// is safe for concurrent use.
type Listener struct {
	opts    Options
	binding atomic.Pointer[endpoint.Binding] // the pipe; replaced when its name is lost
	v1      *endpoint.Binding                // nil without HandoffEndpoint
	self    *self

	queue      queue // connections on their way to Accept
	population population

	// The loop and what its goroutine alone uses (loop.go, adopt.go).
	loop     *loop.Loop
	loopDone chan struct{} // closed when the loop has ended
	pipe     pipe
	handoffs handoffs
	waiting  map[*Conn]readWait
	channels map[*served]bool
	replies  []pendingReply // replies that wait for the first Write, the oldest first
	scratch  []byte
	answer   []byte
	closing  bool // Close has come: nothing waits here any more

	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	wg       sync.WaitGroup // every goroutine of this listener
	closed   sync.Once
	closeErr error

	inherited *brokerChannel // that this process was started with; nil for none
	own       *wire.OwnBuild // what it was started for; nil for a defined service
	ready     sync.Once      // the broker has been told
	idleCheck time.Time      // the loop's: when to look whether the backend is idle
	asking    bool           // the loop's: Options.Busy has been asked, and has not answered
	busy      bool           // the loop's: what it said last
	letGoBy   *brokerChannel // the loop's: where the broker has let this backend go; nil for nowhere
	farewell  farewell
	tellAt    time.Time // the loop's: when to tell the broker how many connections there are; zero for never

	reg   registration
	renew chan struct{} // the pipe has another path, or was bound anew
	look  chan struct{} // something has happened at the broker's name
	// brokerWatched says that look tells of every broker that comes.
	brokerWatched atomic.Bool
}

// Listen binds the backend's own pipe and registers with the broker. ctx bounds
// this call alone.
//
// It tries to register once before it returns. A broker that isn't there, or
// refuses, is no error: the backend serves on its own pipe, and registers as
// soon as it can (see WaitRegistered). It registers again by itself when the
// broker comes back.
//
// The caller closes the Listener.
func Listen(ctx context.Context, opts Options) (*Listener, error) {
	if err := opts.complete(); err != nil {
		return nil, fmt.Errorf("backend: %w", err)
	}
	broker, err := endpoint.BrokerSocket(opts.Broker)
	if err != nil {
		return nil, fmt.Errorf("backend: %w", err)
	}
	opts.Broker = broker
	l := &Listener{
		opts:     opts,
		loopDone: make(chan struct{}),
		waiting:  make(map[*Conn]readWait),
		channels: make(map[*served]bool),
		scratch:  make([]byte, MaxInline),
		renew:    make(chan struct{}, 1),
		look:     make(chan struct{}, 1),
	}
	l.queue.init(opts.Backlog)
	l.population.start, l.population.changed = time.Now(), l.populationChanged
	if l.inherited, l.own, err = inherited(); err != nil {
		return nil, fmt.Errorf("backend: %w", err)
	}
	if l.opts.IdleTimeout == 0 {
		l.opts.IdleTimeout = startedIdle(l.own)
	}
	if err := l.bind(); err != nil {
		return nil, fmt.Errorf("backend: %w", errors.Join(err, l.disown()))
	}
	if err := l.openLoop(); err != nil {
		return nil, errors.Join(fmt.Errorf("backend: %w", err), l.unbind(), l.disown())
	}
	l.self = newSelf(l.path)
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.openPipe()
	l.watchV1()
	if l.opts.IdleTimeout > 0 {
		l.idleCheck = time.Now().Add(l.opts.IdleTimeout)
		l.loop.WakeAt(l.idleCheck)
	}
	l.reg.init()
	first, err := l.inherited, error(nil)
	if first == nil {
		first, err = l.register(ctx)
	} else {
		first.path = l.path()
	}
	l.reg.set(first, err) // known before Listen returns
	l.wg.Go(func() { l.stayRegistered(first, err) })
	l.wg.Go(l.run)
	return l, nil
}

func (l *Listener) bind() (err error) {
	pipe, err := l.bindPipe()
	if err != nil {
		return err
	}
	l.binding.Store(pipe)
	if l.opts.HandoffEndpoint == "" {
		return nil
	}
	if l.v1, err = endpoint.BindHandoff(l.opts.HandoffEndpoint); err != nil {
		return errors.Join(err, pipe.Close())
	}
	return nil
}

// dialledBacklog is how many dialled connections wait beside the kernel's queue.
const dialledBacklog = 16

func (l *Listener) unbind() error {
	err := l.binding.Load().Close()
	if l.v1 != nil {
		err = errors.Join(err, l.v1.Close())
	}
	return err
}

func (l *Listener) openLoop() (err error) {
	if l.loop, err = loop.New(l.tick, nil); err != nil {
		return err
	}
	if err = errors.Join(l.listenOn(l.binding.Load()), l.openV1()); err != nil {
		l.loop.Close()
	}
	return err
}

// run is the loop's goroutine.
func (l *Listener) run() {
	defer close(l.loopDone)
	if err := l.loop.Run(); err != nil {
		l.opts.Logger.Error("event loop ended: no more connections come; start this process again", "error", err)
		l.cancel()
		l.endWaits()
	}
}

// Accept waits for the next connection, handed over or dialled; the concrete
// type is *Conn. The first call tells a broker that has started this process that it is
// ready. After Close it returns what the Listener still has, without waiting,
// and then an error wrapping net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	l.sayReady()
	c, resume := l.queue.take()
	if c == nil {
		return nil, l.errClosed()
	}
	if resume {
		l.loop.Post(l.watchPipe)
	}
	c.closeWhenDropped()
	return c, nil
}

func (l *Listener) errClosed() error {
	return &net.OpError{Op: "accept", Net: "unix", Addr: l.Addr(), Err: net.ErrClosed}
}

// Addr returns the address of the backend's own pipe. It changes when the name is lost
// and Options.Pipe doesn't say which one to take.
func (l *Listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path(), Net: "unix"} }

func (l *Listener) path() string { return l.binding.Load().Path }

// ownUser returns nil when the process at the other end of c runs as this user.
func ownUser(c syscall.Conn) error {
	cred, err := sock.PeerOf(c)
	if err != nil {
		return err
	}
	return cred.CheckUser(os.Geteuid())
}

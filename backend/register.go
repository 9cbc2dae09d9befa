package backend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wire"
)

const (
	registerTimeout = 2 * time.Second
	firstRetry      = 20 * time.Millisecond
	lastRetry       = time.Second
	// foreignRetry is lastRetry for a broker of plain v1, which knows no registration: it
	// would refuse as well a second later, and until it is replaced.
	foreignRetry = time.Minute
	// unseenRetry is lastRetry while no broker is there and its name is watched: one that
	// comes is seen.
	unseenRetry = time.Minute
)

// ErrNotRegistered says that the broker refused to take the backend in; the
// text says why.
var ErrNotRegistered = errors.New("broker refused the registration")

// registration is where the backend stands with the broker.
type registration struct {
	mu      sync.Mutex
	channel *brokerChannel // nil while not registered; closed by serveChannel, ended by leave
	changed chan struct{}  // closed and renewed at every change
	err     error          // of the last attempt, while not registered
}

func (r *registration) init() { r.changed = make(chan struct{}) }

// current is the channel to the broker; nil while there is none.
func (r *registration) current() *brokerChannel {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.channel
}

func (r *registration) set(ch *brokerChannel, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.channel, r.err = ch, err
	close(r.changed)
	r.changed = make(chan struct{})
}

// WaitRegistered returns nil as soon as the broker hands connections to this
// backend. It returns ctx's error, joined with the reason of the last attempt,
// when ctx ends first, and an error wrapping net.ErrClosed after Close.
func (l *Listener) WaitRegistered(ctx context.Context) error {
	for l.ctx.Err() == nil {
		l.reg.mu.Lock()
		registered, changed, err := l.reg.channel != nil, l.reg.changed, l.reg.err
		l.reg.mu.Unlock()
		if registered {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-l.ctx.Done():
		}
	}
	return l.errClosed()
}

// stayRegistered serves the channel, and asks for a new one whenever it ends, and when
// the pipe has got another path, until Close. first and err are the result of Listen's
// own attempt.
func (l *Listener) stayRegistered(first *brokerChannel, err error) {
	delay, said := firstRetry, ""
	for ch := first; ; ch, err = l.register(l.ctx) {
		if err == nil {
			level := slog.LevelInfo
			if ch == l.inherited { // its broker knows that, and the log is to say why it ends
				level = slog.LevelDebug
			}
			l.opts.Logger.Log(l.ctx, level, "registered with the broker", "broker", l.opts.Broker, "pipe", ch.path,
				"capabilities", fmt.Sprintf("%#x", ch.capabilities))
			err = fmt.Errorf("channel ended: %w", l.serveRenewed(ch))
			select { // what was seen while it lasted: the first retries come soon all the same
			case <-l.look:
			default:
			}
			delay, said = firstRetry, ""
		}
		l.reg.set(nil, err)
		if l.ctx.Err() != nil {
			return
		}
		if said != err.Error() {
			said = err.Error()
			l.opts.Logger.Warn("not registered with the broker; serving on the pipe alone, trying again", "broker", l.opts.Broker, "error", err)
		}
		seen, ended := l.pause(delay/2 + rand.N(delay/2))
		switch {
		case ended:
			return
		case seen:
			delay = firstRetry
		default:
			delay = nextRetry(delay, err, l.brokerWatched.Load())
		}
	}
}

// pause waits, or until the pipe was bound anew, or something was seen at the broker's name;
// ended says that the Listener closes.
func (l *Listener) pause(d time.Duration) (seen, ended bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.renew:
	case <-l.look:
		return true, false
	case <-l.ctx.Done():
		return false, true
	}
	return false, false
}

// serveRenewed serves ch until it ends. When the pipe has got another path it registers
// that, and then ends the older channel: there is always one.
func (l *Listener) serveRenewed(ch *brokerChannel) error {
	ended := l.start(ch)
	var retry <-chan time.Time
	for {
		select {
		case err := <-ended:
			return err
		case <-l.renew:
		case <-retry:
		}
		retry = nil
		if ch.path == l.path() {
			continue
		}
		next, err := l.register(l.ctx)
		if err != nil {
			l.opts.Logger.Warn("the broker does not know the new pipe; trying again", "pipe", l.path(), "error", err)
			retry = time.After(lastRetry)
			continue
		}
		older, olderEnded := ch, ended
		ch, ended = next, l.start(next)
		if !l.loop.Post(func() { l.leaveChannel(older) }) {
			older.End()
		}
		<-olderEnded // soon: its end is read
	}
}

// start has ch served; what it returns says why it ended.
func (l *Listener) start(ch *brokerChannel) <-chan error {
	l.reg.set(ch, nil)
	if l.ctx.Err() != nil { // leave may have looked before set
		ch.End()
	}
	return l.serveChannel(ch)
}

// leaveChannel ends a channel of two. What is owed on it is said before.
func (l *Listener) leaveChannel(ch *brokerChannel) {
	for conn := range l.waiting {
		if conn.ack.channel == ch {
			conn.acknowledge()
		}
	}
	ch.End()
}

// nextRetry is how long to wait after a wait of last and another refusal; watched says that
// a broker that comes is seen. One that was seen may not listen yet: so it is asked for a
// while first.
func nextRetry(last time.Duration, refusal error, watched bool) time.Duration {
	most := lastRetry
	if watched && last >= lastRetry && (errors.Is(refusal, syscall.ENOENT) || errors.Is(refusal, errno.ECONNREFUSED)) {
		return unseenRetry
	}
	var refused *hello.Refusal
	if errors.As(refusal, &refused) && refused.Code == wire.ErrorCode_ERROR_PEER_REJECTED && refused.RetryAfter == 0 {
		most = foreignRetry
	}
	return min(2*last, most)
}

// leave ends the channel, so that the broker hands over no more connections. One that has
// let this backend go does so already.
func (l *Listener) leave() {
	l.reg.mu.Lock()
	defer l.reg.mu.Unlock()
	if l.reg.channel != nil && l.reg.channel != l.letGoBy {
		l.reg.channel.End()
	}
}

// register asks the broker for a channel (docs/protocol.md, section
// "Registration").
func (l *Listener) register(ctx context.Context) (*brokerChannel, error) {
	path := l.path()
	if err := l.binding.Load().Check(); errors.Is(err, endpoint.ErrReplaced) {
		l.loop.Post(l.checkPipe) // which has this asked again
		return nil, fmt.Errorf("register: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	c, err := endpoint.Dial(ctx, l.opts.Broker)
	if err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	defer func() { _ = c.Close() }()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var own []byte
	if l.own != nil {
		own = wire.Marshal(l.own)
	}
	_, err = frame.Write(c, frame.RegisterRequest(&wire.Register{
		ServiceName:    l.opts.Service,
		ServiceVersion: l.opts.Version,
		BackendPipe:    path,
		ClaimPage:      true,
		Capabilities:   frame.CapUnknownMessages,
		OwnBuild:       own,
	}))
	// The answer may be there even when the request could not be sent: a broker
	// that refuses does not wait for it.
	ch, replyErr := receiveChannel(c)
	if replyErr != nil {
		return nil, fmt.Errorf("register: %w", errors.Join(replyErr, err))
	}
	ch.path = path
	return ch, nil
}

// receiveChannel reads the answer to a registration from c, which it borrows.
func receiveChannel(c *sock.Conn) (*brokerChannel, error) {
	msg, err := sock.ReceiveFramed(c)
	if err != nil {
		return nil, err
	}
	defer msg.FDs.Close()
	f, err := msg.Frame()
	if err != nil {
		return nil, err
	}
	if f.PayloadProtocol == frame.Control { // a Hello refusal: over limits, or plain v1
		_, err := hello.ParseReply(f)
		return nil, fmt.Errorf("%w: %w", ErrNotRegistered, err)
	}
	registered, err := frame.ParseRegistered(f)
	switch {
	case err != nil:
		return nil, err
	case !registered.Accepted:
		return nil, fmt.Errorf("%w: %s", ErrNotRegistered, registered.Reason)
	case msg.Fault != nil:
		return nil, msg.Fault
	case registered.Channel != wire.ChannelKind_CHANNEL_KIND_SEQPACKET && registered.Channel != wire.ChannelKind_CHANNEL_KIND_STREAM:
		return nil, fmt.Errorf("%w: its channel is a %s, which this backend can't use", ErrNotRegistered, registered.Channel)
	}
	want := 1
	if registered.ClaimPage {
		want = 2
	}
	if msg.FDs.Len() != want {
		return nil, fmt.Errorf("%w: broker sent %d descriptors, not %d", ErrNotRegistered, msg.FDs.Len(), want)
	}
	b := newBrokerChannel()
	b.capabilities = registered.Capabilities
	if registered.ClaimPage {
		if b.page, err = claim.ReceivePage(msg.FDs.Take(1)); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotRegistered, err)
		}
	}
	b.Channel = sock.NewChannel(msg.FDs.Take(0))
	return b, nil
}

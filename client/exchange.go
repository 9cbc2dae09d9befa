package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/brokerpb"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/unixconn"
)

// exchange is one Hello under way: sent, with the early data behind it, and not
// answered. It owns conn until it is concluded.
type exchange struct {
	*dialing
	ctx        context.Context
	conn       *unixconn.Conn
	early      []byte      // kept until the verdict: it may have to be sent again
	reached    bool        // the whole Hello has been sent, and so early data may have been
	deadline   time.Time   // of the whole exchange
	until      time.Time   // of the next read; never after deadline
	halfClosed atomic.Bool // the client's direction has been closed behind early

	buf     []byte
	n       int // bytes in buf
	release func() bool
}

// soon is how long a verdict is waited for in the kernel: far longer than one
// takes. After that the wait goes through the runtime's poller, which costs more
// and occupies no thread.
const soon = 5 * time.Millisecond

// ask connects to the broker and sends Hello with early behind it. Errors are
// verdicts; nothing has been sent then.
func (d *dialing) ask(ctx context.Context, early []byte, deadline time.Time) (*exchange, error) {
	request, err := d.hello(len(early))
	if err != nil {
		return nil, err
	}
	c, err := connect(ctx, d.Broker, deadline)
	switch {
	case err == nil:
	case ctx.Err() != nil, errors.Is(err, ErrNoAnswer):
		return nil, verdict(ctx, err)
	default:
		return nil, fmt.Errorf("%w at %s: %w (start one with \"usher serve\")", ErrBrokerUnreachable, d.Broker, err)
	}
	x := &exchange{dialing: d, ctx: ctx, conn: c, early: early, deadline: deadline, until: deadline, buf: make([]byte, 4<<10)}
	n, err := c.TryWrite(request, early)
	if err == nil && n < len(request)+len(early) || errors.Is(err, errAgain) {
		x.bind()
		rest := append(append([]byte(nil), request...), early...)[n:]
		more, _ := c.Write(rest)
		n += more
	}
	// A broker that refuses without reading may have closed its end already: its
	// answer is there all the same, so a failed write is not the verdict.
	x.reached = n > len(request)
	return x, nil
}

// conclude reads the verdict and returns the connection that it leads to.
func (x *exchange) conclude() (*opened, error) {
	o, err := x.judge()
	if x.release != nil && !x.release() && !errors.Is(err, ErrOutcomeUnknown) {
		err = verdict(x.ctx, errors.Join(x.ctx.Err(), err))
	}
	if err == nil && o.route == HandedOver {
		if x.release != nil {
			err = x.conn.SetDeadline(time.Time{})
		}
		if err == nil {
			return o, nil
		}
	}
	_ = x.conn.Close()
	if err != nil {
		return nil, err
	}
	return x.reconnect(o)
}

// judge reads the verdict. The route of what it returns says what to do.
func (x *exchange) judge() (*opened, error) {
	f, err := x.next()
	if err != nil {
		return nil, x.noVerdict(err)
	}
	granted, err := hello.ParseReply(f)
	if err != nil {
		var refusal *hello.RefusedError
		if errors.As(err, &refusal) {
			knownUsher.forget(x.key())
			return nil, refused(refusal)
		}
		return nil, x.noVerdict(err)
	}
	x.learn(granted)
	o := &opened{conn: x.conn, route: Reconnected, endpoint: granted.BackendPipe, version: granted.DaemonVersion, id: granted.ConnectionId}
	if x.NoHandoff || granted.ServerCapabilities&frame.CapHandlePassing == 0 || len(granted.HandlePassedToken) == 0 {
		return o, nil
	}
	err = x.ready(granted.HandlePassedToken)
	switch {
	case err == nil:
		o.route, o.rest = HandedOver, x.buf[:x.n]
	case len(x.early) > 0: // announced as handed over: the backend may have it
		return nil, &OutcomeError{Err: err}
	}
	return o, nil // else nothing has been sent on this connection
}

// ready waits for the end of an announced handoff.
func (x *exchange) ready(token []byte) error {
	if limit := time.Now().Add(x.ReadyTimeout); limit.Before(x.until) {
		x.until = limit
		if x.release != nil && x.ctx.Err() == nil {
			_ = x.conn.SetReadDeadline(limit) // the end of ctx may have been undone; conclude sees it
		}
	}
	f, err := x.next()
	if err != nil {
		return err
	}
	return frame.ParseHandoffReady(f, token)
}

// noVerdict is what a failure before the verdict means: nothing when no early byte
// can have left, else unknown.
func (x *exchange) noVerdict(err error) error {
	if x.reached && len(x.early) > 0 {
		return &OutcomeError{Err: err}
	}
	return verdict(x.ctx, err)
}

// next returns the next frame. What follows it stays in buf.
func (x *exchange) next() (*brokerpb.Frame, error) {
	for {
		f, used, err := frame.Decode(x.buf[:x.n], frame.MaxHelloBody)
		if err == nil {
			x.n = copy(x.buf, x.buf[used:x.n])
			return f, nil
		}
		if !errors.Is(err, frame.ErrNeedMore) {
			return nil, err
		}
		if err := x.fill(); err != nil {
			return nil, err
		}
	}
}

// fill reads more, within the deadline.
func (x *exchange) fill() error {
	if x.n == len(x.buf) {
		x.buf = append(x.buf, make([]byte, len(x.buf))...)
	}
	if x.release == nil && !x.conn.AwaitRead(min(soon, time.Until(x.until))) {
		x.bind()
	}
	n, err := x.conn.Read(x.buf[x.n:])
	x.n += n
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if n > 0 {
		err = nil
	}
	return err
}

// bind makes reads and writes end at the deadline and with ctx.
func (x *exchange) bind() {
	if x.release != nil {
		return
	}
	_ = x.conn.SetDeadline(x.until)
	x.release = context.AfterFunc(x.ctx, func() { _ = x.conn.SetDeadline(time.Unix(1, 0)) })
}

// reconnect dials the backend's pipe, and sends there what has not been taken.
func (x *exchange) reconnect(o *opened) (*opened, error) {
	if o.endpoint == "" {
		return nil, errors.New("the broker named no backend pipe")
	}
	c, err := connect(x.ctx, o.endpoint, x.deadline)
	switch {
	case err == nil:
	case x.ctx.Err() != nil, errors.Is(err, ErrNoAnswer):
		return nil, verdict(x.ctx, err)
	default:
		return nil, fmt.Errorf("%w at %s: %w", ErrBackendUnreachable, o.endpoint, err)
	}
	o.conn = c
	if len(x.early) > 0 {
		if err := x.replay(c); err != nil {
			_ = c.Close()
			return nil, &OutcomeError{Err: err}
		}
	}
	if x.halfClosed.Load() {
		_ = c.CloseWrite()
	}
	return o, nil
}

// replay sends the early data on a connection that has not seen it.
func (x *exchange) replay(c *unixconn.Conn) error {
	n, err := c.TryWrite(x.early)
	if errors.Is(err, errAgain) || err == nil && n < len(x.early) {
		_ = c.SetWriteDeadline(x.deadline)
		_, err = c.Write(x.early[n:])
		_ = c.SetWriteDeadline(time.Time{})
	}
	return err
}

// errAgain says that the kernel has no room now.
const errAgain = syscall.EAGAIN

package broker

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/brokerpb"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/peer"
)

// connection is one accepted client from accept to verdict:
//
//	accept       accept.go
//	hello        step 2, hello: serve reads exactly one frame, judge judges it
//	resolve      resolve.go finds definition and backend
//	issue, send, acknowledge, otherwise
//	             give.go, through package handoff
//
// It owns its descriptor, which serve closes. Only serve's goroutine reads and
// writes it; hurry and abort touch deadlines alone.
type connection struct {
	*Broker
	conn    *net.UnixConn
	cred    peer.Credentials
	demoted bool // for want of descriptors, when it was accepted
	steps   steps

	ctx    context.Context // ends with abort
	cancel context.CancelFunc

	mu      sync.Mutex
	helloIn bool // hurry and evict do nothing any more
	evicted bool
}

// maxFirstFrame is what the broker reads at most. A body above 64 KiB is refused
// in any case; up to this size it is read to the end, so that the refusal can
// echo the request's id (spec 01 §15).
const maxFirstFrame = 4 * frame.MaxHelloBody

func newConnection(ctx context.Context, b *Broker, c *net.UnixConn, cred peer.Credentials, demoted bool) *connection {
	conn := &connection{Broker: b, conn: c, cred: cred, demoted: demoted}
	conn.ctx, conn.cancel = context.WithCancel(ctx)
	conn.steps.mark("accept")
	_ = c.SetDeadline(conn.steps.began().Add(b.opts.HelloTimeout))
	return conn
}

// serve is the straight line. Whatever happens in it concerns this connection
// alone.
func (c *connection) serve() {
	defer c.finish()
	f, size, err := frame.Read(c.conn, maxFirstFrame)
	c.helloRead()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && c.wasEvicted():
		c.refuse(nil, overloaded())
	case errors.Is(err, os.ErrDeadlineExceeded) && c.draining.Load():
		c.refuse(nil, hello.ShuttingDown())
	case err != nil:
		c.refuse(nil, hello.FromReadError(err))
	case f.PayloadProtocol == frame.Admin:
		c.serveAdmin(f)
	case f.PayloadProtocol == frame.Register:
		c.serveRegistration(f)
	default:
		c.serveHello(f, size)
	}
}

func (c *connection) serveHello(f *brokerpb.Frame, size int) {
	if size > frame.MaxHelloBody { // refused, with an echo that fits the socket
		f.Traceparent, f.Tracestate = "", ""
	}
	h, refusal := c.judge(f, size)
	if refusal != nil {
		c.refuse(f, refusal)
		return
	}
	c.steps.mark("hello")
	t, refusal := c.resolve(f, h)
	if refusal != nil {
		c.refuse(f, refusal)
		return
	}
	c.steps.mark("resolve")
	c.give(t)
}

// judge follows rows 6 to 18 of spec 01 §7.1.
func (c *connection) judge(f *brokerpb.Frame, size int) (*brokerpb.Hello, *hello.Refusal) {
	var gate *hello.Refusal
	switch {
	case c.draining.Load():
		gate = hello.ShuttingDown()
	case c.demoted:
		gate = hello.FDPressure()
	}
	h, refusal := hello.Open(f, size, gate)
	if refusal != nil {
		return nil, refusal
	}
	return h, hello.Validate(h, uint32(c.cred.PID))
}

// refuse is a verdict: this client gets no backend.
func (c *connection) refuse(request *brokerpb.Frame, refusal *hello.Refusal) {
	c.counters.refuse(refusal.Code)
	c.answer(hello.ReplyFrame(request, refusal.Reply()))
	c.log.Info("refused", "code", refusal.Code.String(), "reason", refusal.Reason, "peer_pid", c.cred.PID)
}

// answer sends a verdict. It is due whatever has become of the connection's
// deadline, which a slow Hello, a slow backend or the end of draining uses up.
func (c *connection) answer(f *brokerpb.Frame) { c.written(writeNow(c.conn, f)) }

// write sends one frame of any size within the connection's deadline.
func (c *connection) write(f *brokerpb.Frame) {
	_, err := frame.Write(c.conn, f)
	c.written(err)
}

// written notes how a write ended. A client that has gone is counted, and is no
// error.
func (c *connection) written(err error) {
	switch {
	case err == nil:
	case errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET):
		c.counters.clientGone.Add(1)
		c.log.Debug("client gone before its answer", "peer_pid", c.cred.PID)
	default:
		c.log.Info("answer not written", "peer_pid", c.cred.PID, "error", err)
	}
}

// finish closes the broker's copy. It does not shut the connection down: a
// backend may own it by now.
func (c *connection) finish() {
	c.cancel()
	_ = c.conn.Close()
	c.conns.remove(c)
	c.admission.leave(c.cred.PID)
	if c.log.Enabled(context.Background(), slog.LevelDebug) {
		c.log.LogAttrs(context.Background(), slog.LevelDebug, "connection done", slog.Any("steps", &c.steps))
	}
}

// helloRead ends the reading part: from now on draining waits for the verdict.
func (c *connection) helloRead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.helloIn = true
}

// hurry makes the connection fail at t if its Hello has not been read by then.
func (c *connection) hurry(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.helloIn {
		_ = c.conn.SetReadDeadline(t)
	}
}

// evict ends the connection for want of room if its Hello has not been read, and
// reports whether it did.
func (c *connection) evict() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.helloIn || c.evicted {
		return false
	}
	c.evicted = true
	_ = c.conn.SetReadDeadline(time.Unix(1, 0))
	return true
}

func (c *connection) wasEvicted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.evicted
}

// abort ends every wait on this connection. A handoff under way is decided by
// its claim at once, and the client still gets its answer.
func (c *connection) abort() {
	c.cancel()
	_ = c.conn.SetDeadline(time.Unix(1, 0))
}

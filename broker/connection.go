package broker

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/unixconn"
	"github.com/seed-7265657e/usher/internal/wire"
)

// connection is one accepted client from accept to verdict:
//
//	accept       front.go
//	hello        step 2, hello: read takes exactly one frame, judge judges it
//	resolve      resolve.go finds definition and backend
//	issue, send, acknowledge, otherwise
//	             delivery.go and its ways, settle.go; through package handoff
//
// It owns its descriptor, which finish closes.
//
//	reading ──Hello──▶ offered ──answer, deadline──▶ closed
//	   │  │              │ another try, at most one    ▲
//	   │  └──no backend yet──▶ waiting ────────────────┤
//	   │                         └──a backend──▶ offered, away
//	   └──something that could block──▶ away ──────────┤
//	                      └──what follows from it──▶ offered, away, waiting
//
// Everything about a connection happens on the loop's goroutine, but for the job
// that it is away for, which has it to itself: abort interrupts it, and nothing else
// touches it meanwhile.
type connection struct {
	*front
	conn    *unixconn.Conn
	cred    peer.Credentials
	demoted bool // for want of descriptors, when it was accepted
	steps   steps

	phase    phase
	deadline time.Time // of the phase: of Hello, or of the acknowledgement
	watched  bool      // in the loop's set
	evicted  bool
	in       frame.Partial
	held     held // of phaseWaiting
	offer    offer

	older, newer *connection // the front's list of connections

	cancel  context.CancelFunc // of the time away
	reading bool               // the job reads files, and may never come back
}

type phase int

const (
	phaseReading phase = iota
	phaseWaiting
	phaseOffered
	phaseAway
	phaseClosed // an action that was posted before finds nothing to do
)

// maxFirstFrame is what the broker reads at most. A body above 64 KiB is refused
// in any case; up to this size it is read to the end, so that the refusal can
// echo the request's id (spec 01 §15).
const maxFirstFrame = 4 * frame.MaxHelloBody

func newConnection(f *front, c *unixconn.Conn, cred peer.Credentials, demoted bool) *connection {
	now := time.Now()
	conn := &connection{front: f, conn: c, cred: cred, demoted: demoted, deadline: now.Add(f.opts.HelloTimeout)}
	conn.steps.start(now, f.debug)
	return conn
}

// read takes what has arrived of the first frame. Whatever happens in it concerns
// this connection alone.
func (c *connection) read() {
	body, err := c.in.Fill(c.conn, maxFirstFrame)
	if errors.Is(err, syscall.EAGAIN) {
		err = c.watch()
		if err == nil {
			return
		}
	}
	c.unwatch()
	var f *wire.Frame
	if err == nil {
		f, err = frame.Open(body)
	}
	switch {
	case err != nil:
		c.end(nil, hello.FromReadError(err))
	case f.PayloadProtocol == frame.Admin:
		c.leave(func(job context.Context) { c.serveAdmin(job, f) })
	case f.PayloadProtocol == frame.Register:
		c.serveRegistration(f)
	default:
		c.serveHello(f, len(body))
	}
}

// watch has read called when more has arrived, and expire at the deadline.
func (c *connection) watch() error {
	if c.watched {
		return nil
	}
	fd, ok := c.conn.Borrow()
	if !ok {
		return os.ErrClosed
	}
	defer c.conn.Return()
	if err := c.loop.Add(fd, c.read); err != nil {
		return err
	}
	c.watched = true
	c.loop.WakeAt(c.deadline)
	return nil
}

func (c *connection) unwatch() {
	if !c.watched {
		return
	}
	c.watched = false
	if fd, ok := c.conn.Borrow(); ok {
		c.loop.Remove(fd)
		c.conn.Return()
	}
}

// leave runs job, which may block within the connection's deadline, and ends the
// connection after it.
func (c *connection) leave(job func(ctx context.Context)) {
	c.away(&c.wg, func(ctx context.Context) func() {
		job(ctx)
		return c.finish
	})
}

// readFiles has job, which reads files and does nothing with the connection, done on
// a goroutine of its own. A file system may never answer: then the connection is ended
// without it, and Serve does not wait. What job returns finds that by c.phase.
func (c *connection) readFiles(job func(ctx context.Context) (then func())) {
	c.reading = true
	c.away(&c.readers, func(ctx context.Context) func() {
		then := job(ctx)
		return func() {
			c.reading = false
			then()
		}
	})
}

// away runs job, which may block within the connection's deadline, on a goroutine of
// its own, counted in wg. The loop goes on with what it returns. The context ends with
// abort.
func (c *connection) away(wg *sync.WaitGroup, job func(ctx context.Context) (then func())) {
	c.phase = phaseAway
	ctx, cancel := context.WithCancel(c.work)
	c.cancel = cancel
	_ = c.conn.SetDeadline(c.deadline)
	if c.reading {
		c.loop.WakeAt(c.deadline.Add(readGrace))
	}
	wg.Go(func() {
		then := job(ctx)
		c.post(func() {
			cancel()
			then()
		})
	})
}

// readGrace is how long after its connection's deadline a job that reads files may take
// to come back.
const readGrace = time.Second

func (c *connection) serveHello(f *wire.Frame, size int) {
	if size > frame.MaxHelloBody { // refused, with an echo that fits the socket
		f.Traceparent, f.Tracestate = "", ""
	}
	h, refusal := c.judge(f, size)
	if refusal != nil {
		c.end(f, refusal)
		return
	}
	c.steps.mark("hello")
	c.resolveHello(f, h)
}

// resolveHello is step 3, resolve. What the files say comes from memory, or from a job.
func (c *connection) resolveHello(f *wire.Frame, h *wire.Hello) {
	if facts := c.memory.recall(h.ServiceName, time.Now()); facts != nil {
		c.resolve(facts, f, h)
		return
	}
	c.readDefinition(f, h, roomForReading)
}

// roomForReading is how many connections without a Hello are ended, one after the other,
// for the descriptors that reading a definition and hashing a binary need.
const roomForReading = 4

// readDefinition has the files read, and the Hello resolved with what they say. Where
// descriptors are missing, the oldest connection that has sent nothing makes room, up to
// evictions times: those who only connect can't keep out those who speak.
func (c *connection) readDefinition(f *wire.Frame, h *wire.Hello, evictions int) {
	c.readFiles(func(job context.Context) func() {
		facts, refusal := c.readFacts(job, h.ServiceName)
		return func() {
			switch {
			case c.phase == phaseClosed: // without waiting for the file system
			case evictions > 0 && outOfDescriptors(facts, refusal) && c.evict():
				c.post(func() { // behind that one's end
					if c.phase != phaseClosed {
						c.readDefinition(f, h, evictions-1)
					}
				})
			case refusal != nil:
				c.end(f, refusal)
			case c.work.Err() != nil: // it came back when every channel had been closed
				c.end(f, hello.ShuttingDown())
			default:
				c.resolve(facts, f, h)
			}
		}
	})
}

// outOfDescriptors reports whether the files could not be read for want of descriptors.
func outOfDescriptors(f *facts, refusal *hello.Refusal) bool {
	if refusal != nil {
		return refusal.Code == wire.ErrorCode_ERROR_FD_PRESSURE
	}
	return noDescriptor(f.buildErr)
}

// resolve ends step 3. The backend is looked for and, where there is none, waited for in
// one go on the loop: one that registers meanwhile would be missed.
func (c *connection) resolve(facts *facts, f *wire.Frame, h *wire.Hello) {
	t, refusal := c.match(facts, f, h)
	if refusal != nil {
		if t == nil || !c.awaitBackend(held{key: t.key, request: f, hello: t.hello}) {
			c.end(f, refusal)
		}
		return
	}
	c.steps.mark("resolve")
	c.deliver(t)
}

// judge follows rows 6 to 18 of spec 01 §7.1.
func (c *connection) judge(f *wire.Frame, size int) (*wire.Hello, *hello.Refusal) {
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

// overdue is what the deadline of a phase means.
func (c *connection) overdue() {
	switch {
	case c.phase == phaseOffered:
		c.unanswered(handoff.ErrNoAck)
	case c.phase == phaseWaiting:
		c.waitedInVain(hello.BackendNotRegistered())
	case c.phase == phaseAway:
		c.cancel()
		c.end(nil, hello.ServiceUnloadable(errFileSystem))
	case c.draining.Load():
		c.expire(hello.ShuttingDown())
	default:
		c.expire(hello.FromReadError(os.ErrDeadlineExceeded))
	}
}

// expire ends a connection whose Hello has not come.
func (c *connection) expire(refusal *hello.Refusal) {
	if c.phase != phaseReading {
		return
	}
	c.unwatch()
	c.end(nil, refusal)
}

// hurry makes the connection expire at t if its Hello has not been read by then.
func (c *connection) hurry(t time.Time) {
	if c.phase == phaseReading && t.Before(c.deadline) {
		c.deadline = t
		c.loop.WakeAt(t)
	}
}

// abort ends every wait on this connection. A handoff under way is decided by
// its claim at once, and the client still gets its answer.
func (c *connection) abort() {
	switch c.phase {
	case phaseReading:
		c.expire(hello.ShuttingDown())
	case phaseWaiting:
		c.waitedInVain(hello.ShuttingDown())
	case phaseOffered:
		c.unanswered(context.Canceled)
	case phaseAway:
		c.cancel()
		_ = c.conn.SetDeadline(time.Unix(1, 0))
	}
}

// end is a verdict: this client gets no backend.
func (c *connection) end(request *wire.Frame, refusal *hello.Refusal) {
	c.refuse(request, refusal)
	c.finish()
}

func (c *connection) refuse(request *wire.Frame, refusal *hello.Refusal) {
	c.counters.refuse(refusal.Code)
	c.answer(hello.ReplyFrame(request, refusal.Reply()))
	c.log.Info("refused", "code", refusal.Code.String(), "reason", refusal.Reason, "peer_pid", c.cred.PID)
}

// answer sends a verdict. It is due whatever has become of the connection's
// deadline, which a slow Hello, a slow backend or the end of draining uses up.
func (c *connection) answer(f *wire.Frame) { c.written(writeNow(c.conn, f)) }

// write sends one frame of any size within the connection's deadline.
func (c *connection) write(f *wire.Frame) {
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
// backend may own it by now. It happens once.
func (c *connection) finish() {
	if c.phase == phaseClosed {
		return
	}
	c.phase = phaseClosed
	c.freed(c.in.Held())
	_ = c.conn.Close()
	c.conns.remove(c)
	c.admission.leave(c.cred.PID)
	if c.debug {
		c.log.LogAttrs(context.Background(), slog.LevelDebug, "connection done", slog.Any("steps", &c.steps))
	}
}

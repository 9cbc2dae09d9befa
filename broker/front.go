package broker

import (
	"errors"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/loop"
	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/unixconn"
	"github.com/seed-7265657e/usher/internal/wire"
)

// front is the broker's event loop. A connection whose definition has not changed
// lives its whole life on this one goroutine: accept, hello, resolve, issue, send,
// acknowledge. What could block (disk, a v1 backend, an admin client's answer)
// leaves it for a goroutine of its own (connection.leave).
//
// Everything here runs on the loop's goroutine, but for what is posted to it.
type front struct {
	*Broker
	loop      *loop.Loop
	listener  int            // the listener's descriptor, borrowed
	accepting bool           // listener is in the loop's set
	resume    time.Time      // when to accept again after a failure; zero when not failing
	inFlight  map[string]int // attempts under way, by service
	waiting   waiting
	drained   chan struct{}

	large   int       // bytes of large first frames that have ended since freedAt
	freedAt time.Time // when memory was last given back

	lateMu sync.Mutex
	late   []func() // posted when the loop had ended
}

const (
	// acceptBackoff keeps a full descriptor table from costing CPU (spec 03 §13).
	acceptBackoff = 50 * time.Millisecond
	overloadRetry = 200 * time.Millisecond
)

func newFront(b *Broker) (*front, error) {
	f := &front{Broker: b, inFlight: make(map[string]int), waiting: newWaiting(b.opts), drained: make(chan struct{})}
	raw, err := b.binding.Listener.SyscallConn()
	if err != nil {
		return nil, err
	}
	// The binding keeps the listener open for as long as the loop runs.
	if err := raw.Control(func(fd uintptr) { f.listener = int(fd) }); err != nil {
		return nil, err
	}
	if f.loop, err = loop.New(f.tick, f.reap); err != nil {
		return nil, err
	}
	return f, nil
}

// run serves until stop, and closes the loop.
func (f *front) run() {
	f.acceptAgain()
	if err := f.loop.Run(); err != nil {
		f.log.Error("event loop ended", "error", err)
		f.shutDown(err)
	}
}

func (f *front) acceptAgain() {
	if f.accepting = f.loop.Add(f.listener, f.accept) == nil; !f.accepting {
		f.pause(time.Now())
	}
}

// pause stops accepting for acceptBackoff.
func (f *front) pause(now time.Time) {
	f.stopAccepting()
	f.resume = now.Add(acceptBackoff)
	f.loop.WakeAt(f.resume)
}

func (f *front) stopAccepting() {
	f.loop.Remove(f.listener)
	f.accepting = false
}

// accept is step 1 of a connection's life, accept: one connection, because asking
// in vain costs as much as a quarter of a handoff. No fault of one peer, nor a
// full descriptor table, ends it.
func (f *front) accept() {
	c, err := unixconn.Accept(f.listener)
	switch {
	case err == nil:
		f.resume = time.Time{}
		f.admit(c, f.pressure.accepted())
	case errors.Is(err, syscall.EAGAIN): // it has gone again
	default:
		if f.pressure.failed(err) {
			f.counters.acceptFailures.Add(1)
			if f.evict() { // and accepts again as soon as that one's descriptor is free
				return
			}
		}
		if f.resume.IsZero() { // one line, however long it lasts
			f.log.Warn("accept fails; trying again until it succeeds", "error", err, "every", acceptBackoff)
		}
		f.pause(time.Now())
	}
}

// drain accepts what is still in the kernel's queue, to be refused, and lets the
// others have until hurried to send their Hello.
func (f *front) drain(hurried time.Time) {
	f.stopAccepting()
	f.resume = time.Time{}
	for {
		c, err := unixconn.Accept(f.listener)
		if err != nil { // a full table says so even of an empty queue
			break
		}
		f.admit(c, f.pressure.accepted())
	}
	var waiting []*connection
	f.conns.each(func(c *connection) {
		if c.hurry(hurried); c.phase == phaseWaiting {
			waiting = append(waiting, c)
		}
	})
	for _, c := range waiting { // nobody registers any more
		c.waitedInVain(hello.ShuttingDown())
	}
	close(f.drained)
}

// admit checks who is there before the first byte is read (spec 03 §5), and reads
// what has arrived. It owns c.
func (f *front) admit(c *unixconn.Conn, demoted bool) {
	cred, err := peer.OfConn(c)
	if err == nil {
		err = cred.CheckUser(f.uid)
	}
	if err != nil {
		f.counters.foreignPeers.Add(1)
		f.log.Warn("peer dropped", "error", err)
		_ = c.Close()
		return
	}
	if !f.admission.enter(cred.PID, f.evict) {
		f.refuseUnread(c)
		return
	}
	conn := newConnection(f, c, cred, demoted)
	f.conns.add(conn)
	conn.read()
}

// evict ends the oldest connection that has sent no Hello, so that those who only
// connect can't keep out those who speak. It reports whether there was one.
func (f *front) evict() bool {
	c := f.conns.first(func(c *connection) bool { return c.phase == phaseReading && !c.evicted })
	if c == nil {
		return false
	}
	c.evicted = true
	return f.loop.Post(func() { c.expire(overloaded()) })
}

// refuseUnread answers a connection over the bounds without reading from it.
func (f *front) refuseUnread(c *unixconn.Conn) {
	refusal := overloaded()
	f.counters.refuse(refusal.Code)
	_ = writeNow(c, hello.ReplyFrame(nil, refusal.Reply()))
	_ = c.Close()
}

// overloaded is the refusal for want of room, which others are about to make.
func overloaded() *hello.Refusal {
	return &hello.Refusal{
		Code:       wire.ErrorCode_ERROR_RATE_LIMITED,
		Reason:     "too many connections without a verdict",
		RetryAfter: overloadRetry,
	}
}

// reapEvery is how often the front looks for ACKs in pages when nothing else wakes
// it. Nobody waits for it but the broker's own copy of a connection.
const reapEvery = 10 * time.Millisecond

// countInFlight counts the handoffs in flight to a service.
func (f *front) countInFlight(service string, one int) {
	if f.inFlight[service] += one; f.inFlight[service] == 0 {
		delete(f.inFlight, service)
	}
}

// reap ends the attempts whose ACK stands in their backend's page. The loop calls it
// whenever it has handled what had happened: so an ACK costs no message, and no
// wake-up of its own. Admission bounds how many attempts there are.
func (f *front) reap() {
	for a := range f.handoffs.Acknowledged() {
		a.Owner.(*connection).acked()
	}
}

// tick ends what is overdue, and says when it wants to look again.
func (f *front) tick(now time.Time) (next time.Time) {
	if f.reap(); f.handoffs.Pending() > 0 {
		next = now.Add(reapEvery)
	}
	if !f.resume.IsZero() && !f.accepting {
		if now.Before(f.resume) {
			next = loop.Earlier(next, f.resume)
		} else {
			f.acceptAgain()
		}
	}
	next = loop.Earlier(next, f.freeMemory(now))
	var due []*connection
	f.conns.each(func(c *connection) {
		switch {
		case c.phase == phaseAway && !c.reading:
		case c.phase == phaseAway && now.Before(c.deadline.Add(readGrace)):
			next = loop.Earlier(next, c.deadline.Add(readGrace))
		case !now.Before(c.deadline):
			due = append(due, c)
		default:
			next = loop.Earlier(next, c.deadline)
		}
	})
	for _, c := range due {
		c.overdue()
	}
	return next
}

// post has the loop run f. After the loop's end it is the last thing that Serve does.
func (f *front) post(then func()) {
	if f.loop.Post(then) {
		return
	}
	f.lateMu.Lock()
	defer f.lateMu.Unlock()
	f.late = append(f.late, then)
}

// endReaders ends the connections whose files could not be read to the end.
func (f *front) endReaders() {
	var open []*connection
	f.conns.each(func(c *connection) { open = append(open, c) })
	for _, c := range open {
		c.end(nil, hello.ShuttingDown())
	}
}

// runLate runs what was posted after the loop's end. Nothing else runs any more, but for
// those who wait for a file system.
func (f *front) runLate() {
	for {
		f.lateMu.Lock()
		late := f.late
		f.late = nil
		f.lateMu.Unlock()
		if len(late) == 0 {
			return
		}
		for _, then := range late {
			then()
		}
	}
}

const (
	// largeFrame is what counts as a large first frame, in bytes: no Hello is.
	largeFrame = 8 << 10
	// freeAbove is from how many bytes of them on their memory is given back, and
	// freeEvery how often at most, for it costs a collection.
	freeAbove = 16 << 20
	freeEvery = time.Second
)

// freed notes that a connection ended whose first frame took n bytes. A crowd of large
// ones leaves memory with the process that nobody needs again; an idle process would
// keep it for minutes.
func (f *front) freed(n int) {
	if n < largeFrame {
		return
	}
	if f.large += n; f.large >= freeAbove {
		f.loop.WakeAt(f.freedAt.Add(freeEvery))
	}
}

// freeMemory gives back what freed has noted, and returns when to look again.
func (f *front) freeMemory(now time.Time) (next time.Time) {
	if f.large < freeAbove {
		return time.Time{}
	}
	if due := f.freedAt.Add(freeEvery); now.Before(due) {
		return due
	}
	f.large, f.freedAt = 0, now
	f.wg.Go(debug.FreeOSMemory)
	return time.Time{}
}

// abandon ends every wait at once: the end of draining.
func (f *front) abandon() {
	var open []*connection
	f.conns.each(func(c *connection) { open = append(open, c) })
	for _, c := range open {
		c.abort()
	}
}

package broker

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/sock"
)

// connection is one accepted client from accept to verdict, the one record of it:
//
//	reading ──frame──▶ resolving ──backend──▶ offered ──settled──▶ closed
//	   │                  │   ▲                │ │ ▲ │               ▲
//	   │   none, expected │   │ one is there   │ │ └─┘ once more     │
//	   │                  ▼   │                │ │                   │
//	   │                 waiting ◀──died unread┘ └─proof of a death┐ │
//	   │                                                           ▼ │
//	   └──admin──────────────────────────────────────────────▶ replying
//
// and from each to closed, with a verdict: at its deadline, at the end of draining, or
// because a refusal or the pipe to reconnect to is all there is to say. From offered it is
// resolved anew, once, where the backend died unread and another can be started.
//
// It belongs to the loop. While it is offloaded (job is set) it keeps its phase, and the
// job has its descriptor to itself: resolving reads files, offered speaks with a v1
// backend, replying writes a long answer or looks for what a dead backend left unread.
//
// Of the server it touches what its steps need; nothing is embedded. It owns its
// descriptor, which close closes.
type connection struct {
	server  *server
	conn    *sock.Conn
	cred    sock.Credentials
	demoted bool         // for want of descriptors, when it was accepted
	counted bool         // among the Hellos of its process: once, however often it is resolved
	given   bool         // conn is somebody else's by now
	plain   bool         // it came on a socket of its service alone, and is told nothing
	socket  *plainSocket // that one; nil for others
	steps   steps

	phase    phase     // set by enter alone
	deadline time.Time // of the phase: of Hello, of waiting, or of the acknowledgement
	job      *job      // nil while it is on the loop

	watched  bool          // in the loop's set
	in       frame.Partial // step 2, of
	received prefix        // what another broker has read, and conn
	service  string        // that its Hello asks for
	waiter   waiter        // step 4, of phaseWaiting
	offer    offer         // steps 5 to 9
	control  *control      // a service verb that is under way, of phaseReplying
	again    bool          // startAnother has been used

	older, newer *connection // the server's list of connections
}

type phase uint8

const (
	phaseReading phase = iota
	phaseResolving
	phaseWaiting
	phaseOffered
	phaseReplying
	phaseClosed
)

// follows are the phases that may come after each. Nothing follows phaseClosed: what was
// under way then finds nothing to do.
var follows = [...][]phase{
	phaseReading:   {phaseResolving, phaseReplying, phaseClosed},
	phaseResolving: {phaseWaiting, phaseOffered, phaseClosed},
	phaseWaiting:   {phaseResolving, phaseClosed},
	phaseOffered:   {phaseOffered, phaseResolving, phaseWaiting, phaseReplying, phaseClosed},
	phaseReplying:  {phaseClosed},
	phaseClosed:    {},
}

func newConnection(s *server, c *sock.Conn, cred sock.Credentials, demoted bool) *connection {
	now := time.Now()
	conn := &connection{server: s, conn: c, cred: cred, demoted: demoted, deadline: now.Add(s.opts.HelloTimeout)}
	conn.steps.start(now, s.log.Debug())
	return conn
}

// enter is the way from one phase to the next, with the next one's deadline.
func (c *connection) enter(next phase, deadline time.Time) {
	for _, legal := range follows[c.phase] {
		if next == legal {
			c.phase, c.deadline = next, deadline
			return
		}
	}
	c.server.emit(event.Bug{ConnectionID: c.offer.id, Problem: "a connection took a step that does not follow"})
}

// expires is when overdue is to be called; zero for never. A job ends by itself within
// the deadline, but for one that a file system may keep.
func (c *connection) expires() time.Time {
	switch {
	case c.job == nil:
		return c.deadline
	case c.job.readsFiles && (c.offer.taken == nil || !c.offer.taken.Load()):
		return c.deadline.Add(readGrace)
	}
	return time.Time{}
}

// overdue is what the deadline of a phase means.
func (c *connection) overdue() {
	switch c.phase {
	case phaseReading:
		refusal := hello.FromReadError(os.ErrDeadlineExceeded)
		if c.server.draining {
			refusal = hello.ShuttingDown()
		}
		c.refuseAndClose(nil, refusal)
	case phaseResolving:
		c.abort()
		c.refuseAndClose(nil, hello.ServiceUnloadable(errFileSystem))
	case phaseWaiting:
		if c.waiter.full != nil {
			c.stillFull()
			return
		}
		c.stopWaiting(c.waiter.refusal())
	case phaseReplying:
		c.controlOverdue()
	case phaseOffered:
		if c.offer.taken == nil {
			c.unanswered(handoff.ErrNoAck)
		} else if c.reclaim() {
			c.abort()
			c.refuseAndClose(c.offer.target.request, hello.StartFailed(fmt.Sprintf("%s can't be started: %v", c.service, errFileSystem), 0))
		}
	}
}

// abort ends every wait on this connection. A handoff under way is decided by
// its claim at once, and the client still gets its answer.
func (c *connection) abort() {
	switch {
	case c.job != nil:
		c.job.cancel()
		if c.job.talks {
			_ = c.conn.SetDeadline(time.Unix(1, 0))
		}
	case c.phase == phaseReading:
		c.refuseAndClose(nil, hello.ShuttingDown())
	case c.phase == phaseWaiting:
		c.stopWaiting(hello.ShuttingDown())
	case c.phase == phaseReplying:
		c.controlOverdue()
	case c.phase == phaseOffered:
		c.unanswered(context.Canceled)
	}
}

// close closes the broker's copy. It does not shut the connection down: a backend may
// own it by now. It happens once.
func (c *connection) close() {
	if c.phase == phaseClosed {
		return
	}
	s := c.server
	c.stopReading()
	c.enter(phaseClosed, time.Time{})
	s.loop.WakeAt(s.large.ended(c.in.Held()))
	if !c.given {
		_ = c.conn.Close()
	}
	s.conns.remove(c)
	s.admission.leave(c.cred.PID)
	c.control = nil
	delete(s.controls, c)
	if c.waiter.full != nil { // the room that it has waited for may still be there
		s.loop.Post(s.roomMade)
	}
	s.lookIdle()
	if s.log.Debug() {
		s.emit(event.Done{Steps: c.steps.passed()})
	}
}

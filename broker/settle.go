package broker

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/sock"
)

// This file is steps 8 and 9 of a connection's life, acknowledge and otherwise: how it
// is learned what became of an offer, and what follows.

// collectAcks ends the attempts whose ACK stands in their backend's page. The loop calls
// it whenever it has handled what had happened: so an ACK costs no message, and no
// wake-up of its own. Admission bounds how many attempts there are.
func (s *server) collectAcks() {
	for a := range s.handoffs.Acknowledged() {
		a.Owner.(*connection).acked()
	}
}

// acked is step 8 with an ACK that stands in the backend's page.
func (c *connection) acked() { c.settled(c.offer.attempt.Acked(c.server.now())) }

// answered is step 8 with an ACK or NACK that is a message.
func (c *connection) answered(ack handoff.Ack) {
	c.settled(c.offer.attempt.Answered(ack, c.server.now()))
}

// unanswered is step 9, otherwise: no answer has come, for the reason that cause is.
func (c *connection) unanswered(cause error) {
	c.settled(c.offer.attempt.Unanswered(cause, c.server.now()))
}

// settled is what follows from an attempt's outcome: the broker's copy is closed, or
// another backend gets the connection, or the client is told to reconnect. The claim
// stays open until nothing depends on it any more.
func (c *connection) settled(out handoff.Outcome) {
	o := &c.offer
	t := o.target
	c.server.countInFlight(t.backend, -1)
	c.record(out)
	switch {
	case out.Verdict == handoff.NotTaken && out.Reason.Failure() && !o.retry: // else no backend fares better
		if next := c.server.find(t, func(e *entry) bool { return e != t.backend }); next != nil && next.Handle.claims() {
			c.server.emit(event.Retried{ConnectionID: o.id})
			c.steps.prefix = "retry_"
			o.attempt.Close()
			t.backend, o.retry = next, true
			byChannel{}.deliver(c)
			return
		}
	case out.Verdict == handoff.Adopted && errors.Is(out.Err, handoff.ErrBackendGone) && t.hello.EarlyDataLen > 0 && o.attempt.AcksInPage():
		if c.proveUnread() {
			return
		}
	}
	o.attempt.Close()
	if out.Relinquish() {
		c.close()
		return
	}
	c.reconnectOrWait()
}

// record makes an outcome known, and learns from it about the backend.
func (c *connection) record(out handoff.Outcome) {
	s, t := c.server, c.offer.target
	c.steps.markAt("send", out.SentAt)
	c.steps.mark("acknowledge")
	if errors.Is(out.Err, handoff.ErrNoAck) {
		t.backend.Handle.markSilent(c.offer.late)
	} else if out.Waited > 0 {
		t.backend.Handle.markAnswered()
	}
	fact := event.Handoff{
		ConnectionID: c.offer.id, Backend: known(t.backend),
		Verdict: string(out.Verdict), Stage: string(out.Stage), Reason: string(out.Reason),
		FDReachedBackend: out.FDReachedBackend, LeakedBackendHandle: out.LeakedBackendHandle, Rejected: out.Rejected, Late: out.Late, Waited: out.Waited,
	}
	if fact.InTime() {
		s.policy.RecordSuccess(t.window())
		s.starts.proven(t.key)
	} else if !errors.Is(out.Err, handoff.ErrBackendGone) { // its successor is not to blame
		s.policy.RecordFailure(t.window(), out.Reason, time.Now())
	}
	if out.Err != nil {
		fact.Problem = out.Err.Error()
		t.backend.LastError = fact.Problem
	}
	if errors.Is(out.Err, errno.EBADF) {
		s.emit(event.Bug{ConnectionID: c.offer.id, Problem: "a handoff met a closed descriptor"})
	}
	s.emit(fact)
}

// proveUnread looks for the proof of rule 8 of the exactly-once rules, which waits for
// the death and is a job: the backend took the claim and its channel has ended. With the
// proof the client is sent on. It is false when the job could not begin.
func (c *connection) proveUnread() bool {
	s, o := c.server, &c.offer
	c.enter(phaseReplying, c.deadline)
	conn, backend, attempt, declared := c.conn, o.target.backend, &o.attempt, o.target.hello.EarlyDataLen
	proofs := &backend.Handle.proofs
	proofs.Add(1)
	begun := converse(c, func(ctx context.Context) bool {
		defer proofs.Done()
		return unread(ctx, conn, backend, attempt, declared)
	}, func(proven bool) {
		if proven {
			s.emit(event.ProvenUnread{ConnectionID: o.id, PID: backend.PID})
			if !c.reconnect() {
				c.refuse(o.target.request, hello.BackendNotRegistered())
			}
		}
		attempt.Close()
		c.close()
	}, func(bool) { attempt.Close() })
	if !begun {
		proofs.Done()
	}
	return begun
}

// proofTime is how long the proof waits for the death of a process whose channel has ended: on
// a machine that has more to do than it can, a process that was killed is not gone at once.
var proofTime = time.Second

// unread proves that a backend read nothing. It acknowledges after it has read at least
// one of the bytes that the client declared, and before it writes anything. So once its
// process is known dead, no acknowledgement and as many unread bytes as declared prove
// that it read nothing and wrote nothing (docs/protocol.md, section "Early data"); the
// client may run its request elsewhere. Anything else stays unknown, and the client sees
// the connection end.
//
// The order is what makes it a proof: the death first, after which nothing can be
// read, acknowledged or written any more; then the acknowledgement, without which the
// client has no answer yet and has sent no second request; then the count. Only an
// acknowledgement in the page can be looked for so: that a message has not come proves
// nothing.
func unread(ctx context.Context, conn *sock.Conn, backend *entry, attempt *handoff.Attempt, declared uint32) bool {
	ctx, cancel := context.WithTimeout(ctx, proofTime)
	defer cancel()
	if backend.Handle.process.Wait(ctx) != nil || attempt.Acknowledged() {
		return false
	}
	_ = conn.CloseRead() // nothing can be added any more
	left, err := io.Copy(io.Discard, io.LimitReader(conn, int64(declared)+1))
	return err == nil && left == int64(declared)
}

package broker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/loop"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/wire"
)

// This file is step 4, issue; step 5, send; step 7, acknowledge; and step 8,
// otherwise, of a connection's life: give the connection away, or tell the client
// to reconnect. Step 6, adopt, is the backend's.

// give ends the connection's life here: adopted by a backend, or answered with
// the pipe to reconnect to. Only its owner writes to it, so the client sees one
// reply.
func (c *connection) give(t *target) {
	id := c.lastConnID.Add(1)
	decision := c.decide(t)
	switch {
	case !decision.Attempt:
		c.log.Debug("not handed off", "connection_id", id, "reason", string(decision.Reason), "service", t.key.Service)
		c.sendAway(t, id)
		c.finish()
	case !t.backend.Handle.transport.Claims():
		c.offered(t.key.Service, 1)
		c.away(&c.wg, func(ctx context.Context) func() {
			c.giveV1(ctx, t, id)
			return func() {
				c.offered(t.key.Service, -1)
				c.finish()
			}
		})
	default:
		c.attempt(t, id, false)
	}
}

// decide asks whether a handoff is to be tried at all (spec 02 §4). A client of
// usher's own kind gets one unless the service says no; a stock v1 client, which
// sets bit 0 whether or not it will adopt, only where the service says yes.
//
// Early data is consent without bit 0 (docs/protocol.md, section "Early data"),
// and goes to no backend without a claim: nothing could prove it unread.
func (c *connection) decide(t *target) handoff.Decision {
	capabilities := t.hello.ClientCapabilities
	usher := capabilities&frame.CapUsher != 0
	early := usher && t.hello.EarlyDataLen > 0
	allowed := t.handoff.Enabled == service.On || usher && t.handoff.Enabled == service.Unset
	able := t.backend.Handle.claims() || t.backend.Handle.transport != nil && t.hello.EarlyDataLen == 0
	now := time.Now()
	decision := c.policy.Decide(t.window(), handoff.Inputs{
		Client:     early || capabilities&frame.CapHandlePassing != 0,
		Service:    allowed && able,
		FDPressure: t.handoff.DisableUnderFDPressure && c.pressure.active(),
	}, now)
	if decision.Attempt && c.inFlight[t.key.Service] >= c.opts.maxInFlight() {
		return handoff.Decision{Reason: handoff.FdPressureDisabled} // v1's word for a queue that is full
	}
	if decision.Attempt && !c.attempts.allow(t.key.Service, t.handoff.MaxAttemptsPerMinute, now) {
		return handoff.Decision{Reason: handoff.ServicePolicyDisabled}
	}
	return decision
}

// offer is a handoff under way.
type offer struct {
	target *target
	id     uint64 // of the connection
	number uint64 // of the offer on its channel
	flight *handoff.Flight
	late   uint64 // answers that the backend had given late before this offer
	retry  bool   // the second attempt
	place  int    // in the front's list of flights
}

// attempt offers the connection to t.backend over its channel. It goes on in
// landed: with the answer, at the deadline, or at once.
func (c *connection) attempt(t *target, id uint64, retry bool) {
	c.steps.mark("issue")
	channel := t.backend.Handle.channel
	c.offer = offer{target: t, id: id, retry: retry, late: t.backend.Handle.lateAnswers()}
	a := c.describe(t, id)
	a.Offer.EarlyDataLen = t.hello.EarlyDataLen
	a.NewClaim = channel.NewClaim
	a.Preamble = func(token handoff.Token) ([]byte, error) { return preamble(t, id, token) }
	flight, out := c.handoffs.Begin(c.work, a, func(f *handoff.Flight) error {
		fd, ok := c.conn.Borrow()
		if !ok {
			return handoff.ClassifySend(syscall.EBADF)
		}
		defer c.conn.Return()
		number, err := channel.Offer(f.Offer, fd, c.answered)
		c.offer.number = number
		return err
	})
	if flight == nil {
		c.landed(out)
		return
	}
	c.offer.flight = flight
	now := time.Now()
	c.phase, c.deadline = phaseOffered, now.Add(c.ackDeadline(t))
	c.takeOff(c)
	c.loop.WakeAt(loop.Earlier(c.deadline, now.Add(reapEvery)))
}

// v1AckDeadline keeps two attempts within the 2 s after which a stock v1 client gives
// up on a handoff (spec 02 §7).
const v1AckDeadline = 900 * time.Millisecond

// ackDeadline is how long the backend has to acknowledge.
func (c *connection) ackDeadline(t *target) time.Duration {
	if t.hello.ClientCapabilities&frame.CapUsher == 0 {
		return min(c.opts.AckDeadline, v1AckDeadline)
	}
	return c.opts.AckDeadline
}

// answered is step 7, acknowledge: the backend's ACK or NACK as a message, or its
// channel's end. An ACK in the page is found by the front (reap).
func (c *connection) answered(ack handoff.Ack, err error) {
	flight := c.offer.flight
	if err != nil {
		c.landed(flight.Unanswered(err, false))
		return
	}
	c.landed(flight.Answered(ack))
}

// unanswered ends the wait for an answer.
func (o *offer) unanswered(cause error, cancelled bool) handoff.Outcome {
	o.forget()
	return o.flight.Unanswered(cause, cancelled)
}

// close closes the claim, unless somebody else has it by now.
func (o *offer) close() {
	if o.flight != nil {
		o.flight.Close()
	}
}

// forget has no message answer the offer any more.
func (o *offer) forget() { o.target.backend.Handle.channel.Forget(o.number) }

// landed is what follows from an attempt's outcome.
func (c *connection) landed(out handoff.Outcome) {
	o := c.offer
	t := o.target
	if o.flight != nil {
		c.land(c)
		defer o.close()
	}
	c.offer = offer{}
	c.noted(t, o.id, o.late, out)
	switch {
	case out.Verdict == handoff.NotTaken && out.Reason.Failure() && !o.retry: // else no backend fares better
		if next := c.find(t, t.backend); next != nil && next.Handle.claims() {
			c.counters.retried.Add(1)
			c.steps.prefix = "retry_"
			t.backend = next
			c.attempt(t, o.id, true)
			return
		}
	case out.Verdict == handoff.Adopted && errors.Is(out.Err, handoff.ErrBackendGone) && t.hello.EarlyDataLen > 0 && o.flight != nil && o.flight.AcksInPage():
		flight := o.flight
		o.flight = nil // the job's now
		c.leave(func(ctx context.Context) {
			defer flight.Close()
			c.drainDead(ctx, t, o.id, flight)
		})
		return
	}
	if !out.Relinquish() {
		c.sendAway(t, o.id)
	}
	c.finish()
}

// drainDead is rule 8 of the exactly-once rules: the backend took the claim and
// its channel has ended. It acknowledges after it has read at least one of the bytes
// that the client declared, and before it writes anything. So once its process is
// known dead, no acknowledgement and as many unread bytes as declared prove that it
// read nothing and wrote nothing (docs/protocol.md, section "Early data"); the client
// may run its request elsewhere. Anything else stays unknown, and the client sees the
// connection end.
//
// The order is what makes it a proof: the death first, after which nothing can be
// read, acknowledged or written any more; then the acknowledgement, without which the
// client has no answer yet and has sent no second request; then the count. Only an
// acknowledgement in the page can be looked for so: that a message has not come proves
// nothing.
func (c *connection) drainDead(ctx context.Context, t *target, id uint64, flight *handoff.Flight) {
	ctx, cancel := context.WithTimeout(ctx, exitGrace)
	defer cancel()
	if t.backend.Handle.process.Wait(ctx) != nil || flight.Acknowledged() {
		return
	}
	_ = c.conn.CloseRead() // nothing can be added any more
	unread, err := drain(c.conn, t.hello.EarlyDataLen)
	if err != nil || unread != int64(t.hello.EarlyDataLen) {
		return
	}
	c.counters.proven.Add(1)
	c.log.Info("backend died before it read the request", "connection_id", id, "backend_pid", t.backend.PID)
	c.sendAway(t, id)
}

// drain reads and drops what is left in c, at most one byte more than limit.
func drain(c io.Reader, limit uint32) (int64, error) {
	return io.Copy(io.Discard, io.LimitReader(c, int64(limit)+1))
}

// describe makes the part of an attempt that every transport needs.
func (c *connection) describe(t *target, id uint64) handoff.Attempt {
	t.backend.MarkHello(time.Now())
	return handoff.Attempt{
		Backend:   handoff.Backend{Service: t.key.Service, PID: t.backend.PID},
		Transport: t.backend.Handle.transport,
		Offer: handoff.Offer{
			Service:      t.key.Service,
			ConnectionID: id,
			Traceparent:  t.request.Traceparent,
			Tracestate:   t.request.Tracestate,
		},
	}
}

// noted notes an outcome, and what it says about the backend; late is what
// lateAnswers said before the attempt.
func (c *connection) noted(t *target, id, late uint64, out handoff.Outcome) {
	c.steps.markAt("send", out.SentAt)
	c.steps.mark("acknowledge")
	if errors.Is(out.Err, handoff.ErrNoAck) {
		t.backend.Handle.markSilent(late)
	} else if out.Waited > 0 {
		t.backend.Handle.markAnswered()
	}
	c.note(t, id, out)
}

// note counts and logs an outcome, and feeds the failure window.
func (c *connection) note(t *target, id uint64, out handoff.Outcome) {
	c.counters.outcome(out)
	attrs := func() []slog.Attr {
		return []slog.Attr{
			slog.Uint64("connection_id", id), slog.String("service", t.key.Service), slog.String("version", t.key.Version),
			slog.Int("backend_pid", t.backend.PID), slog.Any("outcome", out),
		}
	}
	if out.Verdict == handoff.Adopted && !out.Late {
		c.policy.RecordSuccess(t.window())
		if c.debug {
			c.log.LogAttrs(context.Background(), slog.LevelDebug, "handed over", attrs()...)
		}
		return
	}
	if !errors.Is(out.Err, handoff.ErrBackendGone) { // its successor is not to blame
		c.policy.RecordFailure(t.window(), out.Reason, time.Now())
	}
	if out.Err != nil {
		t.backend.MarkError(out.Err)
	}
	if errors.Is(out.Err, syscall.EBADF) {
		c.log.Error("bug: a handoff met a closed descriptor", "connection_id", id)
	}
	c.log.LogAttrs(context.Background(), slog.LevelWarn, "handoff fell back", attrs()...)
}

// preamble is what the backend writes first: the reply with the token, and the
// ready event that ends the client's wait (spec 02 §6).
func preamble(t *target, id uint64, token handoff.Token) ([]byte, error) {
	reply, err := frame.Append(make([]byte, 0, preambleRoom), hello.ReplyFrame(t.request, grant(t, id, token[:]).Reply()))
	if err != nil {
		return nil, err
	}
	return frame.Append(reply, frame.HandoffReady(token[:], id))
}

// preambleRoom is what a preamble takes with a path of ordinary length, in bytes.
const preambleRoom = 384

func grant(t *target, id uint64, token []byte) hello.Grant {
	return hello.Grant{
		Version:            t.backend.Version,
		BackendPipe:        t.backend.Pipe,
		ServerCapabilities: frame.CapUsher,
		Keepalive:          t.hello.ClientKeepaliveSecs,
		Token:              token,
		ConnectionID:       id,
	}
}

// sendAway ends step 8, otherwise: the broker still owns the connection and tells
// the client to reconnect. A backend that has gone meanwhile is not named, and one that
// has just proven silent only where there is no other.
func (c *connection) sendAway(t *target, id uint64) {
	if alive := t.backend.Handle.process.Alive(); !alive || !t.backend.Handle.sound() {
		other := c.find(t, t.backend)
		switch {
		case other != nil && (!alive || other.Handle.sound()):
			t.backend = other
		case !alive:
			c.refuse(t.request, hello.BackendNotRegistered())
			return
		}
	}
	t.backend.MarkHello(time.Now())
	c.counters.reconnected.Add(1)
	c.reply(t, grant(t, id, nil))
	c.steps.mark("reply")
}

func (c *connection) reply(t *target, g hello.Grant) {
	c.answer(hello.ReplyFrame(t.request, g.Reply()))
}

// giveV1 is the order of the v1 exchange (spec 02 §1): the client learns its
// token from the broker first, and after the ACK the broker, not the backend,
// writes the ready event. Once the token is out there is no second try: whatever
// fails, the connection is closed and the client reconnects by itself.
func (c *connection) giveV1(ctx context.Context, t *target, id uint64) {
	token, err := c.tokens.Issue(time.Now())
	if err != nil {
		c.log.Warn("no handoff token", "error", err)
		c.sendAway(t, id)
		return
	}
	c.steps.mark("issue")
	c.reply(t, grant(t, id, token[:]))
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return
	}
	a := c.describe(t, id)
	a.Conn, a.Token = raw, &token
	late := t.backend.Handle.lateAnswers()
	out := c.handoffs.Handoff(ctx, a)
	c.noted(t, id, late, out)
	if out.Verdict == handoff.Adopted {
		c.writeReady(frame.HandoffReady(token[:], id))
	}
}

// writeReady writes without ever blocking: the descriptor is in blocking mode by
// now, because a v1 backend shares it and expects that.
func (c *connection) writeReady(ready *wire.Frame) {
	if err := writeNow(c.conn, ready); err != nil {
		c.log.Info("ready event not written", "error", err)
	}
}

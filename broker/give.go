package broker

import (
	"context"
	"errors"
	"log/slog"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/brokerpb"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/service"
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
	if !decision.Attempt {
		c.log.Debug("not handed off", "connection_id", id, "reason", string(decision.Reason), "service", t.key.Service)
		c.sendAway(t, id)
		return
	}
	if !t.backend.Handle.transport.Claims() {
		c.giveV1(t, id)
		return
	}
	out := c.attempt(t, id)
	if out.Verdict == handoff.NotTaken && out.Reason.Failure() { // else no backend fares better
		if next := c.find(t, t.backend); next != nil && next.Handle.claims() {
			c.counters.retried.Add(1)
			c.steps.prefix = "retry_"
			t.backend = next
			out = c.attempt(t, id)
		}
	}
	if !out.Relinquish() {
		c.sendAway(t, id)
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
	if decision.Attempt && !c.attempts.allow(t.key.Service, t.handoff.MaxAttemptsPerMinute, now) {
		return handoff.Decision{Reason: handoff.ServicePolicyDisabled}
	}
	return decision
}

// attempt hands the connection to t.backend over its channel and notes what came
// of it.
func (c *connection) attempt(t *target, id uint64) handoff.Outcome {
	c.steps.mark("issue")
	return c.hand(t, handoff.Attempt{
		Offer: handoff.Offer{EarlyDataLen: t.hello.EarlyDataLen},
		Preamble: func(token handoff.Token) ([]byte, error) {
			return preamble(t, id, token)
		},
	}, id)
}

// hand completes the attempt and makes it.
func (c *connection) hand(t *target, a handoff.Attempt, id uint64) handoff.Outcome {
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return handoff.Outcome{Verdict: handoff.NotTaken, Stage: handoff.StageIssue, Err: err}
	}
	a.Conn = raw
	a.Backend = handoff.Backend{Service: t.key.Service, PID: t.backend.PID}
	a.Transport = t.backend.Handle.transport
	a.Offer.Service = t.key.Service
	a.Offer.ConnectionID = id
	a.Offer.Traceparent = t.request.Traceparent
	a.Offer.Tracestate = t.request.Tracestate
	t.backend.MarkHello(time.Now())
	before := t.backend.Handle.lateAnswers()
	out := c.handoffs.Handoff(c.ctx, a)
	c.steps.markAt("send", out.SentAt)
	c.steps.mark("acknowledge")
	if errors.Is(out.Err, handoff.ErrNoAck) {
		t.backend.Handle.markSilent(before)
	} else if out.Waited > 0 {
		t.backend.Handle.markAnswered()
	}
	c.note(t, id, out)
	return out
}

// note counts and logs an outcome, and feeds the failure window.
func (c *connection) note(t *target, id uint64, out handoff.Outcome) {
	c.counters.outcome(out)
	now := time.Now()
	attrs := []slog.Attr{
		slog.Uint64("connection_id", id), slog.String("service", t.key.Service), slog.String("version", t.key.Version),
		slog.Int("backend_pid", t.backend.PID), slog.Any("outcome", out),
	}
	if out.Verdict == handoff.Adopted && !out.Late {
		c.policy.RecordSuccess(t.window())
		c.log.LogAttrs(context.Background(), slog.LevelDebug, "handed over", attrs...)
		return
	}
	if !errors.Is(out.Err, handoff.ErrBackendGone) { // its successor is not to blame
		c.policy.RecordFailure(t.window(), out.Reason, now)
	}
	if out.Err != nil {
		t.backend.MarkError(out.Err)
	}
	if errors.Is(out.Err, syscall.EBADF) {
		c.log.Error("bug: a handoff met a closed descriptor", "connection_id", id)
	}
	c.log.LogAttrs(context.Background(), slog.LevelWarn, "handoff fell back", attrs...)
}

// preamble is what the backend writes first: the reply with the token, and the
// ready event that ends the client's wait (spec 02 §6).
func preamble(t *target, id uint64, token handoff.Token) ([]byte, error) {
	reply, err := frame.Append(nil, hello.ReplyFrame(t.request, grant(t, id, token[:]).Reply()))
	if err != nil {
		return nil, err
	}
	return frame.Append(reply, frame.HandoffReady(token[:], id))
}

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
// the client to reconnect. The backend may have gone meanwhile; then another one
// is named, or the client is refused.
func (c *connection) sendAway(t *target, id uint64) {
	if !t.backend.Handle.process.Alive() {
		if t.backend = c.find(t, t.backend); t.backend == nil {
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
func (c *connection) giveV1(t *target, id uint64) {
	token, err := c.tokens.Issue(time.Now())
	if err != nil {
		c.log.Warn("no handoff token", "error", err)
		c.sendAway(t, id)
		return
	}
	c.steps.mark("issue")
	c.reply(t, grant(t, id, token[:]))
	out := c.hand(t, handoff.Attempt{Token: &token}, id)
	if out.Verdict == handoff.Adopted {
		c.writeReady(frame.HandoffReady(token[:], id))
	}
}

// writeReady writes without ever blocking: the descriptor is in blocking mode by
// now, because a v1 backend shares it and expects that.
func (c *connection) writeReady(ready *brokerpb.Frame) {
	if err := writeNow(c.conn, ready); err != nil {
		c.log.Info("ready event not written", "error", err)
	}
}

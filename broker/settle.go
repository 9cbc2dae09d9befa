package broker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/handoff"
)

// settled is what follows from an attempt's outcome: the broker's copy is closed, or
// another backend gets the connection, or the client is told to reconnect. The claim
// stays open until nothing depends on it any more.
func (c *connection) settled(out handoff.Outcome) {
	o := &c.offer
	t := o.target
	c.countInFlight(t.key.Service, -1)
	c.noted(out)
	switch {
	case out.Verdict == handoff.NotTaken && out.Reason.Failure() && !o.retry: // else no backend fares better
		if next := c.find(t, func(e *entry) bool { return e != t.backend }); next != nil && next.Handle.claims() {
			c.counters.retried.Add(1)
			c.steps.prefix = "retry_"
			o.attempt.Close()
			t.backend, o.retry = next, true
			byChannel{}.deliver(c)
			return
		}
	case out.Verdict == handoff.Adopted && errors.Is(out.Err, handoff.ErrBackendGone) && t.hello.EarlyDataLen > 0 && o.attempt.AcksInPage():
		c.leave(func(ctx context.Context) {
			defer c.offer.attempt.Close()
			c.drainDead(ctx)
		})
		return
	}
	if !out.Relinquish() {
		c.reconnect()
	}
	o.attempt.Close()
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
func (c *connection) drainDead(ctx context.Context) {
	t := c.offer.target
	ctx, cancel := context.WithTimeout(ctx, exitGrace)
	defer cancel()
	if t.backend.Handle.process.Wait(ctx) != nil || c.offer.attempt.Acknowledged() {
		return
	}
	_ = c.conn.CloseRead() // nothing can be added any more
	unread, err := drain(c.conn, t.hello.EarlyDataLen)
	if err != nil || unread != int64(t.hello.EarlyDataLen) {
		return
	}
	c.counters.proven.Add(1)
	c.log.Info("backend died before it read the request", "connection_id", c.offer.id, "backend_pid", t.backend.PID)
	c.reconnect()
}

// drain reads and drops what is left in c, at most one byte more than limit.
func drain(c io.Reader, limit uint32) (int64, error) {
	return io.Copy(io.Discard, io.LimitReader(c, int64(limit)+1))
}

// noted notes an outcome, and what it says about the backend.
func (c *connection) noted(out handoff.Outcome) {
	backend := c.offer.target.backend.Handle
	c.steps.markAt("send", out.SentAt)
	c.steps.mark("acknowledge")
	if errors.Is(out.Err, handoff.ErrNoAck) {
		backend.markSilent(c.offer.late)
	} else if out.Waited > 0 {
		backend.markAnswered()
	}
	c.note(out)
}

// note counts and logs an outcome, and feeds the failure window.
func (c *connection) note(out handoff.Outcome) {
	t, id := c.offer.target, c.offer.id
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

package broker

import (
	"context"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/wire"
)

// byV1 is the order of the v1 exchange (spec 02 §1): the client learns its token from
// the broker first, and after the ACK the broker, not the backend, writes the ready
// event. Once the token is out there is no second try: whatever fails, the connection
// is closed and the client reconnects by itself.
//
// The exchange may block and is a job. The attempt begins and ends on the loop; the job
// has values alone.
type byV1 struct{}

func (byV1) leadsTo(t *target) bool {
	return t.backend.Handle.v1 != nil && t.hello.EarlyDataLen == 0
}

func (byV1) deliver(c *connection) {
	o := &c.offer
	if err := c.issue(c.opts.AckDeadline); err != nil {
		c.log.Warn("no handoff token", "error", err)
		c.countInFlight(o.target.key.Service, -1)
		byReconnect{}.deliver(c)
		return
	}
	token := o.attempt.Token()
	c.reply(o.target, grant(o.target, o.id, token[:]))
	raw, err := c.conn.SyscallConn()
	if err == nil {
		err = context.Cause(c.work)
	}
	if err != nil {
		c.settledV1(o.attempt.NotSent(handoff.StageSend, handoff.Cancelled, err))
		return
	}
	v1, message, wait := *o.target.backend.Handle.v1, o.message(), c.opts.AckDeadline
	c.away(&c.wg, func(ctx context.Context) func() {
		result := v1.Exchange(ctx, token, message, raw, wait)
		at := c.now()
		return func() { c.settledV1(o.attempt.Exchanged(result, at)) }
	})
}

// settledV1 is what follows from the outcome of a v1 exchange.
func (c *connection) settledV1(out handoff.Outcome) {
	c.countInFlight(c.offer.target.key.Service, -1)
	c.noted(out)
	if out.Verdict == handoff.Adopted {
		token := c.offer.attempt.Token()
		c.writeReady(frame.HandoffReady(token[:], c.offer.id))
	}
	c.finish()
}

// writeReady writes without ever blocking: the descriptor is in blocking mode by
// now, because a v1 backend shares it and expects that.
func (c *connection) writeReady(ready *wire.Frame) {
	if err := writeNow(c.conn, ready); err != nil {
		c.log.Info("ready event not written", "error", err)
	}
}

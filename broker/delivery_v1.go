package broker

import (
	"context"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/transport"
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
	s, o := c.server, &c.offer
	wait := s.opts.AckDeadline
	if !o.target.fromUsher() {
		wait = min(wait, v1Patience)
	}
	if err := c.issue(wait); err != nil {
		s.emit(event.NoToken{Problem: err.Error()})
		s.countInFlight(o.target.backend, -1)
		byReconnect{}.deliver(c)
		return
	}
	token := o.attempt.Token()
	c.reply(o.target, grant(o.target, o.id, token[:]))
	raw, err := c.conn.SyscallConn()
	if err != nil {
		c.settledV1(o.attempt.NotSent(handoff.StageSend, handoff.Cancelled, err))
		return
	}
	v1, message, now := *o.target.backend.Handle.v1, o.message(), s.now
	c.enter(phaseOffered, c.deadline)
	begun := offload(c, false, func(ctx context.Context) exchanged {
		return exchanged{v1.Exchange(ctx, token, message, raw, wait), now()}
	}, func(e exchanged) {
		c.settledV1(e.result.Settle(&o.attempt, e.at))
	}, nil)
	if !begun {
		c.settledV1(o.attempt.NotSent(handoff.StageSend, handoff.Cancelled, context.Cause(s.jobs.work)))
	}
}

// v1Patience is how long a stock v1 client waits for the ready event before it reconnects by
// itself (spec 02 §7). An ACK that comes later would find nobody, and the sooner it is missed,
// the fewer clients wait for a backend that is silent.
const v1Patience = 2 * time.Second

// exchanged is what a v1 exchange came to, and when.
type exchanged struct {
	result transport.V1Result
	at     time.Time
}

// settledV1 is what follows from the outcome of a v1 exchange.
func (c *connection) settledV1(out handoff.Outcome) {
	o := &c.offer
	c.server.countInFlight(o.target.backend, -1)
	c.record(out)
	if out.Verdict == handoff.Adopted {
		token := o.attempt.Token()
		// Without ever blocking: the descriptor is in blocking mode by now, because a v1
		// backend shares it and expects that.
		if err := writeNow(c.conn, frame.HandoffReady(token[:], o.id)); err != nil {
			c.server.emit(event.ReadyLost{Problem: err.Error()})
		}
	}
	c.close()
}

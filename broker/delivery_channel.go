package broker

import (
	"context"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/loop"
)

// byChannel hands the connection over on the backend's channel, with a claim that
// decides whose it is. Early data goes this way alone: nothing else could prove it
// unread.
type byChannel struct{}

func (byChannel) leadsTo(t *target) bool { return t.backend.Handle.claims() }

// deliver is steps 5 and 6, issue and send. Step 7, adopt, is the backend's. It goes on
// with step 8, acknowledge (answered, acked), or step 9, otherwise: at the deadline
// (overdue), when the channel ends (backendLeft), or at once.
func (byChannel) deliver(c *connection) {
	if out, sent := c.send(); !sent {
		c.settled(out)
		return
	}
	now := time.Now()
	c.enter(phaseOffered, now.Add(c.offer.attempt.Deadline().Sub(c.server.now())))
	c.server.loop.WakeAt(loop.Earlier(c.deadline, now.Add(ackCheck)))
}

// send offers the connection to its target. When it could not be sent, it returns what
// that means.
func (c *connection) send() (out handoff.Outcome, sent bool) {
	o := &c.offer
	a, channel := &o.attempt, o.target.backend.Handle.channel
	if err := c.issue(c.ackDeadline(o.target)); err != nil {
		return a.NotSent(handoff.StageIssue, handoff.TokenUnavailable, err), false
	}
	if err := channel.Claim(a); err != nil {
		return a.NotSent(handoff.StageIssue, handoff.ClaimUnavailable, err), false
	}
	first, err := preamble(o.target, o.id, a.Token())
	if err != nil {
		return a.NotSent(handoff.StageSend, handoff.ServicePolicyDisabled, err), false
	}
	if err := context.Cause(c.server.jobs.work); err != nil {
		return a.NotSent(handoff.StageSend, handoff.Cancelled, err), false
	}
	failpoint.Hit(failpoint.BrokerIssued)
	message := o.message()
	message.Preamble = first
	if err := channel.Send(a, message, c.conn); err != nil {
		return a.SendFailed(err), false
	}
	a.Sent(c.server.now())
	failpoint.Hit(failpoint.BrokerSent)
	return handoff.Outcome{}, true
}

// v1AckDeadline keeps two attempts within v1Patience.
const v1AckDeadline = 900 * time.Millisecond

// ackDeadline is how long the backend has to acknowledge.
func (c *connection) ackDeadline(t *target) time.Duration {
	if !t.fromUsher() {
		return min(c.server.opts.AckDeadline, v1AckDeadline)
	}
	return c.server.opts.AckDeadline
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

package broker

import (
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/service"
)

// delivery is one way for a connection to reach the backend that it was resolved to,
// c.offer.target. It runs on the loop, and everything about it but the bytes is there:
// what could block leaves the loop as a job that takes values and posts its result.
type delivery interface {
	// leadsTo reports whether t can be delivered this way.
	leadsTo(t *target) bool
	// deliver begins; whatever comes of it, c gets its verdict and is finished.
	deliver(c *connection)
}

// deliveries are the ways to hand a connection over; the first that leads to the
// target is taken. Where none does, or a handoff is not to be tried, the client is told
// to reconnect, which is always right. A new one is its file, and a line here.
var deliveries = [...]delivery{byChannel{}, byV1{}}

// offer is the delivery under way.
type offer struct {
	attempt handoff.Attempt
	target  *target
	id      uint64 // of the connection, which its client and backend are told
	late    uint64 // answers that the backend had given late before this attempt
	retry   bool   // the second attempt
}

// deliver ends the connection's life here: adopted by a backend, or answered with the
// pipe to reconnect to. Only its owner writes to it, so the client sees one reply.
func (c *connection) deliver(t *target) {
	c.offer = offer{target: t, id: c.lastConnID.Add(1)}
	var way delivery = byReconnect{}
	able := false
	for _, d := range deliveries {
		if able = d.leadsTo(t); able {
			way = d
			break
		}
	}
	if decision := c.decide(t, able); !decision.Attempt {
		c.log.Debug("not handed off", "connection_id", c.offer.id, "reason", string(decision.Reason), "service", t.key.Service)
		way = byReconnect{}
	}
	way.deliver(c)
}

// decide asks whether a handoff is to be tried at all (spec 02 §4); able says that
// there is a way to. A client of usher's own kind gets one unless the service says no;
// a stock v1 client, which sets bit 0 whether or not it will adopt, only where the
// service says yes.
//
// Early data is consent without bit 0 (docs/protocol.md, section "Early data").
func (c *connection) decide(t *target, able bool) handoff.Decision {
	capabilities := t.hello.ClientCapabilities
	usher := capabilities&frame.CapUsher != 0
	early := usher && t.hello.EarlyDataLen > 0
	allowed := t.handoff.Enabled == service.On || usher && t.handoff.Enabled == service.Unset
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

// issue is step 5, issue, for every way: it enters the attempt with a token of its own,
// whose acknowledgement is due after life. Every attempt that was begun so is ended by
// settled or settledV1.
func (c *connection) issue(life time.Duration) error {
	o := &c.offer
	t := o.target
	c.steps.mark("issue")
	t.backend.MarkHello(time.Now())
	o.late = t.backend.Handle.lateAnswers()
	o.attempt.Owner = c
	o.attempt.Backend = handoff.Backend{Service: t.key.Service, PID: t.backend.PID}
	c.countInFlight(t.key.Service, 1)
	return c.handoffs.Issue(&o.attempt, life, c.now())
}

// message is what the backend is told on every way.
func (o *offer) message() handoff.Offer {
	t := o.target
	return handoff.Offer{
		Service:      t.key.Service,
		ConnectionID: o.id,
		EarlyDataLen: t.hello.EarlyDataLen,
		Traceparent:  t.request.Traceparent,
		Tracestate:   t.request.Tracestate,
	}
}

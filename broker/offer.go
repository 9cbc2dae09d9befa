package broker

import (
	"sync/atomic"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/service"
)

// This file is step 5 of a connection's life, issue, and leads to step 6, send, by one
// of the deliveries.

// offer is the delivery under way.
type offer struct {
	attempt handoff.Attempt
	target  *target
	id      uint64       // of the connection, which its client and backend are told
	late    uint64       // answers that the backend had given late before this attempt
	retry   bool         // the second attempt
	taken   *atomic.Bool // by a process that is being started for it alone, or back from that; nil without one
}

// deliver ends the connection's life here: adopted by a backend, or answered with the
// pipe to reconnect to. Only its owner writes to it, so the client sees one reply.
func (c *connection) deliver(t *target) {
	c.server.lastConnID++
	c.offer = offer{target: t, id: c.server.lastConnID}
	var way delivery = byReconnect{}
	able := false
	for _, d := range deliveries {
		if able = d.leadsTo(t); able {
			way = d
			break
		}
	}
	if decision := c.decide(t, able); !decision.Attempt && !c.plain {
		c.server.emit(event.NotOffered{ConnectionID: c.offer.id, Reason: string(decision.Reason), Service: t.key.Service})
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
	s := c.server
	capabilities := t.hello.ClientCapabilities
	usher := t.fromUsher()
	early := usher && t.hello.EarlyDataLen > 0
	unset := usher || t.backend.Pipe == "" // where there is no pipe to reconnect to, this is the way
	allowed := t.handoff.Enabled == service.On || unset && t.handoff.Enabled == service.Unset
	now := time.Now()
	decision := s.policy.Decide(t.window(), handoff.Inputs{
		Client:     early || capabilities&frame.CapHandlePassing != 0,
		Service:    allowed && able,
		FDPressure: t.handoff.DisableUnderFDPressure && s.pressure.demoted,
	}, now)
	if decision.Attempt && s.inFlight[t.key.Service] >= s.opts.maxInFlight() {
		return handoff.Decision{Reason: handoff.FdPressureDisabled} // v1's word for a queue that is full
	}
	if most := t.handoff.MaxAttemptsPerMinute; decision.Attempt && most != 0 {
		if _, ok := s.attempts.Allow(t.key.Service, most, now); !ok {
			return handoff.Decision{Reason: handoff.ServicePolicyDisabled}
		}
	}
	return decision
}

// issue is step 5, issue, for every way: it enters the attempt with a token of its own,
// whose acknowledgement is due after life. Every attempt that was begun so is ended by
// settled or settledV1.
func (c *connection) issue(life time.Duration) error {
	s, o := c.server, &c.offer
	t := o.target
	c.steps.mark("issue")
	t.backend.LastHello = time.Now()
	o.late = t.backend.Handle.lateAnswers()
	o.attempt.Owner = c
	o.attempt.Backend = handoff.Backend{Service: t.key.Service, PID: t.backend.PID}
	s.countInFlight(t.backend, 1)
	return s.handoffs.Issue(&o.attempt, life, s.now())
}

// countInFlight counts the handoffs in flight to a backend, and to its service.
func (s *server) countInFlight(to *entry, one int) {
	to.Handle.inFlight += one
	service := to.Service
	if s.inFlight[service] += one; s.inFlight[service] == 0 {
		delete(s.inFlight, service)
	}
	if s.successor != nil && to.Handle.inFlight == 0 {
		s.loop.Post(func() { s.passBackends(to) }) // behind what is being settled
	}
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

// fromUsher reports whether the client is of usher's own kind; else it is a stock v1 client.
func (t *target) fromUsher() bool { return t.hello.ClientCapabilities&frame.CapUsher != 0 }

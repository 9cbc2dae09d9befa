package broker

import (
	"cmp"
	"maps"
	"slices"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/admin"
	"github.com/seed-7265657e/usher/internal/event"
)

// counters are the broker's figures since it started, counted from its events. The zero
// value is ready.
type counters struct {
	handoffs  admin.Handoffs // without Fallbacks
	clients   admin.Clients  // without Refused
	relayed   uint64
	refused   map[string]uint64
	fallbacks map[fallback]uint64
}

// fallback is the label of an attempt without an acknowledgement in time.
type fallback struct{ stage, reason string }

// nack is the label of an attempt that the backend answered with a NACK, which
// for the failure window is as good as no answer.
const nack = "Nack"

// note counts a fact.
func (c *counters) note(e event.Event) {
	switch e := e.(type) {
	case event.Handoff:
		c.noteHandoff(&e)
	case event.Retried:
		c.handoffs.Retried++
	case event.ProvenUnread:
		c.handoffs.ProvenUnread++
	case event.ChannelEnded:
		c.handoffs.StrayAck += e.Strays
		c.handoffs.UnknownMessages += e.Unknown
	case event.Reconnected:
		c.clients.Reconnected++
	case event.Relayed:
		c.relayed++
	case event.Waited:
		c.clients.Waited++
	case event.ClientGone:
		c.clients.Gone++
	case event.PeerDropped:
		c.clients.Foreign++
	case event.AcceptFailed:
		if e.NoDescriptors {
			c.clients.AcceptFailures++
		}
	case event.Refused:
		if c.refused == nil {
			c.refused = make(map[string]uint64)
		}
		c.refused[e.Code]++
	}
}

func (c *counters) noteHandoff(e *event.Handoff) {
	switch handoff.Verdict(e.Verdict) {
	case handoff.Adopted:
		c.handoffs.Adopted++
	case handoff.NotTaken:
		c.handoffs.NotTaken++
	default:
		c.handoffs.Unknown++
	}
	if e.Late {
		c.handoffs.LateAck++
	}
	if e.Reason == "" {
		return
	}
	label := fallback{e.Stage, e.Reason}
	if e.Rejected {
		label.reason = nack
	}
	if c.fallbacks == nil {
		c.fallbacks = make(map[fallback]uint64)
	}
	c.fallbacks[label]++
}

// shownHandoffs are the figures of handoffs as status shows them.
func (c *counters) shownHandoffs() admin.Handoffs {
	h := c.handoffs
	for f, n := range c.fallbacks {
		h.Fallbacks = append(h.Fallbacks, admin.Fallback{Stage: f.stage, Reason: f.reason, Count: n})
	}
	slices.SortFunc(h.Fallbacks, func(a, b admin.Fallback) int {
		return cmp.Or(cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Reason, b.Reason))
	})
	return h
}

// shownClients are the figures of connections as status shows them.
func (c *counters) shownClients() admin.Clients {
	s := c.clients
	s.Refused = make(map[string]uint64)
	maps.Copy(s.Refused, c.refused)
	return s
}

package broker

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/admin"
	"github.com/seed-7265657e/usher/internal/wire"
)

// counters are the broker's figures since it started. The zero value is ready.
type counters struct {
	adopted, notTaken, unknown  atomic.Uint64 // attempts, by verdict
	lateAck, retried, strayAcks atomic.Uint64
	reconnected                 atomic.Uint64 // clients sent to a backend's pipe
	proven                      atomic.Uint64 // requests proven unread by a backend that died
	waited                      atomic.Uint64 // clients that waited for a backend
	clientGone, foreignPeers    atomic.Uint64
	acceptFailures              atomic.Uint64
	refused                     [wire.ErrorCode_ERROR_FD_PRESSURE + 1]atomic.Uint64 // by code

	mu        sync.Mutex
	fallbacks map[fallback]uint64
}

// fallback is the label of an attempt without an acknowledgement in time.
type fallback struct {
	stage  handoff.Stage
	reason handoff.Reason
}

// nack is the label of an attempt that the backend answered with a NACK, which
// for the failure window is as good as no answer.
const nack handoff.Reason = "Nack"

func (c *counters) refuse(code wire.ErrorCode) {
	if code >= 0 && int(code) < len(c.refused) {
		c.refused[code].Add(1)
	}
}

func (c *counters) outcome(out handoff.Outcome) {
	switch out.Verdict {
	case handoff.Adopted:
		c.adopted.Add(1)
	case handoff.NotTaken:
		c.notTaken.Add(1)
	default:
		c.unknown.Add(1)
	}
	if out.Late {
		c.lateAck.Add(1)
	}
	reason := out.Reason
	switch {
	case reason == "":
		return
	case out.Rejected:
		reason = nack
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fallbacks == nil {
		c.fallbacks = make(map[fallback]uint64)
	}
	c.fallbacks[fallback{out.Stage, reason}]++
}

func (c *counters) handoffs() admin.Handoffs {
	h := admin.Handoffs{
		Adopted:  c.adopted.Load(),
		NotTaken: c.notTaken.Load(),
		Unknown:  c.unknown.Load(),
		LateAck:  c.lateAck.Load(),
		Retried:  c.retried.Load(),
		StrayAck: c.strayAcks.Load(),

		ProvenUnread: c.proven.Load(),
	}
	c.mu.Lock()
	for f, n := range c.fallbacks {
		h.Fallbacks = append(h.Fallbacks, admin.Fallback{Stage: string(f.stage), Reason: string(f.reason), Count: n})
	}
	c.mu.Unlock()
	slices.SortFunc(h.Fallbacks, func(a, b admin.Fallback) int {
		return cmp.Or(cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Reason, b.Reason))
	})
	return h
}

func (c *counters) clients() admin.Clients {
	s := admin.Clients{
		Reconnected:    c.reconnected.Load(),
		Waited:         c.waited.Load(),
		Gone:           c.clientGone.Load(),
		Foreign:        c.foreignPeers.Load(),
		AcceptFailures: c.acceptFailures.Load(),
		Refused:        make(map[string]uint64),
	}
	for code := range c.refused {
		if n := c.refused[code].Load(); n > 0 {
			s.Refused[wire.ErrorCode(code).String()] = n
		}
	}
	return s
}

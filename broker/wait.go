package broker

import (
	"slices"
	"time"

	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/loop"
	"github.com/seed-7265657e/usher/internal/registry"
)

// This file is step 4 of a connection's life, wait: a Hello for which no backend is
// ready, and one is expected. Backends outlive their broker and register again with
// the next one; one that is replaced is back in a moment. Until then its clients wait
// here, for at most Options.BackendWait, instead of being refused.
//
//	waiting ──a backend of that service and version registers──▶ resolving
//	   └──its time is over, or the broker drains──▶ refused

// waiting is the one place to wait: bounded, with a deadline, by instance, service and
// version. Whoever knows that a backend is about to come says expect, and ready once it
// is there; those who wait for another build resolve to none, and wait on.
type waiting struct {
	most        int           // connections of one key
	time        time.Duration // how long one waits
	connections map[registry.Key][]*connection

	// expected says until when a backend of a key is expected. Those that are over are of
	// no use, and go when there are too many.
	expected map[registry.Key]time.Time
}

// maxExpected bounds the keys for which a backend is expected.
const maxExpected = 1024

func newWaiting(opts Options) waiting {
	return waiting{
		most: opts.maxInFlight(), time: opts.BackendWait,
		connections: make(map[registry.Key][]*connection), expected: make(map[registry.Key]time.Time),
	}
}

// expect says that a backend of key is about to come, in the usual time from now.
func (w *waiting) expect(key registry.Key, now time.Time) {
	if len(w.expected) >= maxExpected {
		for k, until := range w.expected {
			if !now.Before(until) {
				delete(w.expected, k)
			}
		}
	}
	if len(w.expected) < maxExpected {
		w.expected[key] = now.Add(w.time)
	}
}

// until is when to stop waiting for a backend of key; zero when none is expected, or
// too many wait already.
func (w *waiting) until(key registry.Key, started, now time.Time) time.Time {
	by := started.Add(w.time) // they come back as soon as they find the new broker
	if expected := w.expected[key]; expected.After(by) {
		by = expected
	}
	if !now.Before(by) || len(w.connections[key]) >= w.most {
		return time.Time{}
	}
	return by
}

// waiter is what a connection waits with.
type waiter struct {
	target   *target   // without a backend
	deadline time.Time // the connection's own
	// starts is what to start when nobody has registered in time; owned. Nil where the
	// broker starts nothing, or has begun to.
	starts *definition
	// paused says that the service is, and heldBack that another broker may be about to serve.
	paused, heldBack bool
	// full is the refusal of a connection that waits for one of the processes of its service
	// to end; nil where it waits for a backend.
	full *hello.Refusal
}

// refusal is what one is told who has waited in vain.
func (w *waiter) refusal() *hello.Refusal {
	if w.paused {
		return hello.Paused(w.target.key.Service)
	}
	return hello.BackendNotRegistered()
}

// waitForBackend has the connection wait where a backend is expected, and reports
// whether it does.
func (c *connection) waitForBackend(t *target) bool {
	s, now := c.server, time.Now()
	if c.passFrame(t.request) { // it waits there
		return true
	}
	if s.backends.Find(t.key, func(e *entry) bool { return e.Handle.gone() }) != nil {
		s.waiting.expect(t.key, now) // its channel's end has not been read yet
	}
	by := s.waiting.until(t.key, s.since, now)
	if by.IsZero() || s.draining {
		return false
	}
	c.waitUntil(by, waiter{target: t})
	return true
}

// waitUntil has the connection wait for a backend until then, and no longer than its own
// deadline.
func (c *connection) waitUntil(by time.Time, w waiter) {
	s, key := c.server, w.target.key
	w.deadline = c.deadline
	c.waiter = w
	c.enter(phaseWaiting, loop.Earlier(by, c.deadline))
	s.waiting.connections[key] = append(s.waiting.connections[key], c)
	s.emit(event.Waited{Service: key.Service, Version: key.Version})
	s.loop.WakeAt(c.deadline)
}

// ready resolves anew those who wait for a backend of key.
func (s *server) ready(key registry.Key) {
	all := s.waiting.connections[key]
	delete(s.waiting.connections, key)
	for _, c := range all {
		c.resolveAnew()
	}
}

// resolveAnew goes on with a connection that has waited, and is in no queue any more.
func (c *connection) resolveAnew() {
	w := c.waiter
	w.starts.close()
	c.enter(phaseResolving, w.deadline)
	c.resolve(w.target.request, w.target.hello)
}

// stopWaiting refuses a connection whose backend has not come.
func (c *connection) stopWaiting(refusal *hello.Refusal) {
	c.leaveQueue()
	c.waiter.starts.close()
	c.refuseAndClose(c.waiter.target.request, refusal)
}

// leaveQueue takes the connection out of those who wait.
func (c *connection) leaveQueue() {
	waiting, key := &c.server.waiting, c.waiter.target.key
	others := slices.DeleteFunc(waiting.connections[key], func(other *connection) bool { return other == c })
	if waiting.connections[key] = others; len(others) == 0 {
		delete(waiting.connections, key)
	}
}

package broker

import (
	"time"

	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/loop"
	"github.com/seed-7265657e/usher/internal/registry"
	"github.com/seed-7265657e/usher/internal/wire"
)

// This file is step 4 of a connection's life, wait: a Hello for whom no backend is
// ready, and one is about to be. Backends outlive their broker and register again with
// the next one; one that is replaced is back in a moment. Until then its clients wait
// here, for at most Options.BackendWait, instead of being refused.
//
//	waiting ──a backend of that service and version registers──▶ resolve
//	   └──its time is over, or the broker drains──▶ refused
//
// All of it is the loop's.
type waiting struct {
	most int           // connections of one key
	time time.Duration // how long one waits
	conn map[registry.Key][]*connection

	// left says when a key last lost a backend. Those older than time are of no use,
	// and go when there are too many.
	left map[registry.Key]time.Time
}

// maxLeft bounds the memory of keys without a backend.
const maxLeft = 1024

func newWaiting(opts Options) waiting {
	return waiting{
		most: opts.maxInFlight(), time: opts.BackendWait,
		conn: make(map[registry.Key][]*connection), left: make(map[registry.Key]time.Time),
	}
}

// lost notes that a backend of key has gone.
func (w *waiting) lost(key registry.Key, now time.Time) {
	if len(w.left) >= maxLeft {
		for k, at := range w.left {
			if now.Sub(at) >= w.time {
				delete(w.left, k)
			}
		}
	}
	if len(w.left) < maxLeft {
		w.left[key] = now
	}
}

// until is when to stop waiting for a backend of key; zero when none is expected.
func (w *waiting) until(key registry.Key, started, now time.Time) time.Time {
	by := started.Add(w.time) // they come back as soon as they find the new broker
	if left, known := w.left[key]; known && left.Add(w.time).After(by) {
		by = left.Add(w.time)
	}
	if !now.Before(by) || len(w.conn[key]) >= w.most {
		return time.Time{}
	}
	return by
}

// held is a Hello that waits.
type held struct {
	key     registry.Key
	request *wire.Frame
	hello   *wire.Hello
	by      time.Time // the connection's own deadline
}

// awaitBackend has the connection wait where a backend is expected, and reports
// whether it does.
func (c *connection) awaitBackend(h held) bool {
	now := time.Now()
	if c.backends.Find(h.key, func(e *entry) bool { return e.Handle.gone() }) != nil {
		c.waiting.lost(h.key, now) // the loop has not come to that yet
	}
	by := c.waiting.until(h.key, c.started, now)
	if by.IsZero() || c.draining.Load() {
		return false
	}
	h.by = c.deadline
	c.held = h
	c.phase, c.deadline = phaseWaiting, loop.Earlier(by, c.deadline)
	c.waiting.conn[h.key] = append(c.waiting.conn[h.key], c)
	c.counters.waited.Add(1)
	c.loop.WakeAt(c.deadline)
	return true
}

// ready resolves anew those who wait for a backend of key.
func (f *front) ready(key registry.Key) {
	waiting := f.waiting.conn[key]
	delete(f.waiting.conn, key)
	for _, c := range waiting {
		c.phase, c.deadline = phaseReading, c.held.by
		c.resolveHello(c.held.request, c.held.hello)
	}
}

// waitedInVain refuses a connection whose backend has not come.
func (c *connection) waitedInVain(refusal *hello.Refusal) {
	key := c.held.key
	others := c.waiting.conn[key]
	for i, other := range others {
		if other == c {
			others[i] = others[len(others)-1]
			c.waiting.conn[key] = others[:len(others)-1]
			break
		}
	}
	if len(c.waiting.conn[key]) == 0 {
		delete(c.waiting.conn, key)
	}
	c.end(c.held.request, refusal)
}

package client

import (
	"sync/atomic"

	"github.com/seed-7265657e/usher/internal/sock"
)

// outcome is what may be concluded about the first request when the connection
// fails.
type outcome struct {
	// writes counts the Writes under way: their bytes may be with the backend before
	// the Write has returned.
	writes         atomic.Int32
	sent, answered atomic.Bool
}

// send notes whether something may have reached a backend.
func (o *outcome) send(may bool) {
	if o.sent.Load() != may {
		o.sent.Store(may)
	}
}

// answer notes that a byte of an answer has come.
func (o *outcome) answer() {
	if !o.answered.Load() {
		o.answered.Store(true)
	}
}

// of gives a failure its meaning. It looks at writes before sent, as a Write leaves
// them in the other order.
func (o *outcome) of(err error) error {
	if err != nil && (o.writes.Load() > 0 || o.sent.Load()) && !o.answered.Load() {
		return &OutcomeError{Err: err}
	}
	return err
}

// write writes p to c.
func (o *outcome) write(c *sock.Conn, p []byte) (int, error) {
	if o.sent.Load() || len(p) == 0 {
		return c.Write(p)
	}
	o.writes.Add(1)
	defer o.writes.Add(-1)
	n, err := c.Write(p)
	if n > 0 {
		o.send(true)
	}
	return n, err
}

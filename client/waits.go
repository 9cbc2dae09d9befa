package client

import (
	"context"
	"net"
	"os"
	"time"
)

// waits are the ends of waiting: the caller's deadlines, and that of the exchange.
// The stream's mu guards them.
type waits struct {
	read, write time.Time
	changed     chan struct{} // closed when somebody waits in vain: a deadline is new, the turn is free, or all is over

	driven  bool        // somebody has the turn:
	driver  caller      // who
	release func() bool // lets go of the driver's context
	until   time.Time   // when the step under way ends, whoever drives it
	armed   bool        // the socket ends reads and writes in time
}

// caller is one call that needs the connection.
type caller struct {
	op        string
	direction direction       // whose deadline is its own
	ctx       context.Context // nil for a method of Conn
}

type direction uint8

const (
	neither direction = iota
	reading
	writing
)

func (c *caller) err() error {
	if c.ctx == nil {
		return nil
	}
	return c.ctx.Err()
}

func (c *caller) done() <-chan struct{} {
	if c.ctx == nil {
		return nil
	}
	return c.ctx.Done()
}

// deadline is when c must return; zero for never.
func (w *waits) deadline(c *caller) time.Time {
	switch c.direction {
	case reading:
		return w.read
	case writing:
		return w.write
	}
	return time.Time{}
}

// tell wakes who waits.
func (w *waits) tell() {
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

func (w *waits) change() <-chan struct{} {
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.changed
}

func passed(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

// earlier is the earlier of two deadlines, of which zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// setDeadlines sets those that are not nil. They hold for calls under way too.
func (s *stream) setDeadlines(read, write *time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == closed {
		return opError("set", net.ErrClosed)
	}
	w := &s.waits
	if read != nil {
		w.read = *read
	}
	if write != nil {
		w.write = *write
	}
	w.tell()
	switch {
	case s.state != settled:
		return s.enforce()
	case write == nil:
		return s.sock.SetReadDeadline(w.read)
	case read == nil:
		return s.sock.SetWriteDeadline(w.write)
	}
	return s.sock.SetDeadline(w.read)
}

// enforce ends the driver's read or write of the socket with the first of all
// deadlines. The caller holds mu.
func (s *stream) enforce() error {
	w := &s.waits
	if !w.armed || !w.driven || s.state >= settled {
		return nil
	}
	by := earlier(w.until, w.deadline(&w.driver))
	if w.driver.err() != nil {
		by = time.Unix(1, 0)
	}
	return s.sock.SetDeadline(by)
}

// take waits for the turn, until c's own deadline. Who takes it leaves it.
func (s *stream) take(c *caller) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if err := s.over(c); err != nil {
			return err
		}
		w := &s.waits
		if !w.driven && !(s.writesFirst && s.state == unasked && c.op == "read") {
			w.driven, w.driver = true, *c
			return nil
		}
		changed, by := w.change(), w.deadline(c)
		s.mu.Unlock()
		pause(changed, c.done(), by)
		s.mu.Lock()
	}
}

// leave gives the turn to the next. As long as nothing has been sent, that one
// begins anew.
func (s *stream) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == unasked {
		s.dropLocked()
		s.x = nil
	}
	w := &s.waits
	if w.release != nil {
		w.release()
	}
	w.driven, w.driver, w.release = false, caller{}, nil
	w.tell()
}

// over says why c's own time is over; nil while it is not. The caller holds mu.
func (s *stream) over(c *caller) error {
	switch {
	case s.state == closed:
		return net.ErrClosed
	case s.state < settled && passed(s.waits.deadline(c), time.Now()):
		return os.ErrDeadlineExceeded
	}
	return nil
}

// arm makes reads and writes of the socket end in time: that of the step, of the
// driver and of its context.
func (s *stream) arm(until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &s.waits
	w.until, w.armed = until, s.sock != nil
	_ = s.enforce() // fails on a closed socket, as what follows does
	if w.release == nil && w.driver.done() != nil {
		w.release = context.AfterFunc(w.driver.ctx, s.wake)
	}
}

func (s *stream) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.enforce()
	s.waits.tell()
}

// within is when a wait until then must end for the driver's sake, and whether the
// socket ends it.
func (s *stream) within(until time.Time) (end time.Time, armed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &s.waits
	return earlier(until, w.deadline(&w.driver)), w.armed
}

// sleep is a pause of the exchange: until then, or until something has changed that
// the driver has to look at.
func (s *stream) sleep(until time.Time) {
	s.mu.Lock()
	c := s.waits.driver
	changed, by := s.waits.change(), earlier(until, s.waits.deadline(&c))
	ended := s.state == closed
	s.mu.Unlock()
	if !ended {
		pause(changed, c.done(), by)
	}
}

// pause waits for the first of three.
func pause(changed, done <-chan struct{}, by time.Time) {
	var timer <-chan time.Time
	if !by.IsZero() {
		t := time.NewTimer(time.Until(by))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-changed:
	case <-done:
	case <-timer:
	}
}

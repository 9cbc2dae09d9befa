package client

import (
	"context"
	"net"
	"os"
	"time"
)

// waits holds every deadline of a stream, and which call has the turn. The stream's mu
// guards it.
type waits struct {
	read, write time.Time
	changed     chan struct{} // closed when who waits must look again: at a new deadline, the free turn, or the end

	driven  bool        // a call has the turn
	driver  caller      // that call
	release func() bool // stops watching the driver's context
	until   time.Time   // deadline of the step under way, whoever drives it
	armed   bool        // the socket has the deadline that enforce chose
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
func (w *waits) notify() {
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

func (w *waits) changes() <-chan struct{} {
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
	w.notify()
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

// enforce sets the earliest of the step's and the driver's deadlines on the socket. The
// caller holds mu.
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

// take waits for the turn, until c's own deadline. The caller gives it back with leave.
func (s *stream) take(c *caller) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if err := s.ended(c); err != nil {
			return err
		}
		w := &s.waits
		if !w.driven && !(s.writesFirst && s.state == unasked && c.op == "read") {
			w.driven, w.driver = true, *c
			return nil
		}
		changed, by := w.changes(), w.deadline(c)
		s.mu.Unlock()
		pause(changed, c.done(), nil, by)
		s.mu.Lock()
	}
}

// leave gives the turn back. While nothing has been sent, the next one begins anew.
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
	w.notify()
}

// ended returns why c must return: the stream is closed, or c's own deadline has passed.
// Nil while neither is so. The caller holds mu.
func (s *stream) ended(c *caller) error {
	switch {
	case s.state == closed:
		return net.ErrClosed
	case s.state < settled && passed(s.waits.deadline(c), time.Now()):
		return os.ErrDeadlineExceeded
	}
	return nil
}

// arm gives the socket a deadline: the step's, the driver's, or the end of its context.
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
	s.waits.notify()
}

// within returns the earlier of until and the driver's deadline, and whether the socket
// has that deadline already.
func (s *stream) within(until time.Time) (end time.Time, armed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &s.waits
	return earlier(until, w.deadline(&w.driver)), w.armed
}

// sleep pauses the exchange until then, until done is closed, or until a change that the
// driver must look at.
func (s *stream) sleep(until time.Time, done <-chan struct{}) {
	s.mu.Lock()
	c := s.waits.driver
	changed, by := s.waits.changes(), earlier(until, s.waits.deadline(&c))
	ended := s.state == closed
	s.mu.Unlock()
	if !ended {
		pause(changed, c.done(), done, by)
	}
}

// pause returns at the first of the four.
func pause(changed, ended, done <-chan struct{}, by time.Time) {
	var timer <-chan time.Time
	if !by.IsZero() {
		t := time.NewTimer(time.Until(by))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-changed:
	case <-ended:
	case <-done:
	case <-timer:
	}
}

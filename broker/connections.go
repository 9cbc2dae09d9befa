package broker

import (
	"sync"
	"time"
)

// connections are those without a verdict: accepted, and not yet handed over,
// answered or dropped. Their number is bounded by admission.
type connections struct {
	mu     sync.Mutex
	oldest *connection // the list is by age; its links are guarded by mu
	newest *connection
	open   int
	empty  chan struct{} // closed when nothing is open any more; nil until somebody waits
}

func (s *connections) add(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.older = s.newest; c.older != nil {
		c.older.newer = c
	} else {
		s.oldest = c
	}
	s.newest = c
	s.open++
}

func (s *connections) remove(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.older != nil {
		c.older.newer = c.newer
	} else {
		s.oldest = c.newer
	}
	if c.newer != nil {
		c.newer.older = c.older
	} else {
		s.newest = c.older
	}
	s.open--
	if s.open == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// each calls f, which must not end the connection, for every one, the oldest
// first.
func (s *connections) each(f func(*connection)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := s.oldest; c != nil; c = c.newer {
		f(c)
	}
}

// first returns the oldest connection that fits, or nil.
func (s *connections) first(fits func(*connection) bool) *connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := s.oldest; c != nil; c = c.newer {
		if fits(c) {
			return c
		}
	}
	return nil
}

func (s *connections) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// wait returns true when no connection is open, false at the deadline.
func (s *connections) wait(deadline time.Time) bool {
	s.mu.Lock()
	if s.open == 0 {
		s.mu.Unlock()
		return true
	}
	if s.empty == nil {
		s.empty = make(chan struct{})
	}
	empty := s.empty
	s.mu.Unlock()
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-empty:
		return true
	case <-timer.C:
		return false
	}
}

package broker

import (
	"container/list"
	"sync"
	"time"
)

// connections are those without a verdict: accepted, and not yet handed over,
// answered or dropped.
type connections struct {
	mu    sync.Mutex
	open  map[*connection]*list.Element
	order list.List // of *connection, the oldest first
	// hurried is set when draining begins: the time by which a Hello must be in.
	hurried time.Time
	empty   chan struct{} // closed when nothing is open any more; nil until somebody waits
}

// add enters c; its Hello deadline is shortened if draining has begun.
func (s *connections) add(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[*connection]*list.Element)
	}
	s.open[c] = s.order.PushBack(c)
	if !s.hurried.IsZero() {
		c.hurry(s.hurried)
	}
}

func (s *connections) remove(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.order.Remove(s.open[c])
	delete(s.open, c)
	if len(s.open) == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// evict ends the oldest connection that has sent no Hello, so that those who only
// connect can't keep out those who speak. It reports whether there was one.
func (s *connections) evict() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.order.Front(); e != nil; e = e.Next() {
		if e.Value.(*connection).evict() {
			return true
		}
	}
	return false
}

func (s *connections) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// hurry makes every connection whose Hello has not been read fail at t.
func (s *connections) hurry(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hurried = t
	for c := range s.open {
		c.hurry(t)
	}
}

// wait returns true when no connection is open, false at the deadline.
func (s *connections) wait(deadline time.Time) bool {
	s.mu.Lock()
	if len(s.open) == 0 {
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

// closeAll ends every connection's reads, writes and waits at once.
func (s *connections) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		c.abort()
	}
}

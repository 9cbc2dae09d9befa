package broker

import (
	"container/list"
	"sync"
	"time"
)

// connections are those without a verdict: accepted, and not yet handed over,
// answered or dropped. Their number is bounded by admission.
type connections struct {
	mu    sync.Mutex
	open  map[*connection]*list.Element
	order list.List     // of *connection, the oldest first
	empty chan struct{} // closed when nothing is open any more; nil until somebody waits
}

func (s *connections) add(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[*connection]*list.Element)
	}
	s.open[c] = s.order.PushBack(c)
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

// each calls f, which must not end the connection, for every one, the oldest
// first.
func (s *connections) each(f func(*connection)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.order.Front(); e != nil; e = e.Next() {
		f(e.Value.(*connection))
	}
}

// oldest returns the oldest connection that fits, or nil.
func (s *connections) oldest(fits func(*connection) bool) *connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.order.Front(); e != nil; e = e.Next() {
		if c := e.Value.(*connection); fits(c) {
			return c
		}
	}
	return nil
}

func (s *connections) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
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

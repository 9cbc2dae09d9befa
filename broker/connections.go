package broker

import "github.com/seed-7265657e/usher/internal/registry"

// connections are those without a verdict: accepted, and not yet handed over,
// answered or dropped. Their number is bounded by admission.
type connections struct {
	oldest, newest *connection // a list by age
	open           int
	empty          chan struct{} // closed when nothing is open any more; nil until somebody waits
}

func (s *connections) add(c *connection) {
	if c.older = s.newest; c.older != nil {
		c.older.newer = c
	} else {
		s.oldest = c
	}
	s.newest = c
	s.open++
}

func (s *connections) remove(c *connection) {
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

// each calls f, which must not close the connection, for every one, the oldest first.
func (s *connections) each(f func(*connection)) {
	for c := s.oldest; c != nil; c = c.newer {
		f(c)
	}
}

// all returns every one, the oldest first.
func (s *connections) all() []*connection {
	all := make([]*connection, 0, s.open)
	s.each(func(c *connection) { all = append(all, c) })
	return all
}

// startingProcesses are those that are being started for one connection each.
func (s *connections) startingProcesses() (all []*entry) {
	s.each(func(c *connection) {
		if c.offer.taken != nil {
			all = append(all, c.offer.target.backend)
		}
	})
	return all
}

// silent returns the oldest of which no whole Hello has come; nil when there is none.
func (s *connections) silent() *connection {
	for c := s.oldest; c != nil; c = c.newer {
		if c.phase == phaseReading {
			return c
		}
	}
	return nil
}

// comesBackFor reports whether one that has waited for a backend of key is being resolved
// anew, which may take a job.
func (s *connections) comesBackFor(key registry.Key) bool {
	for c := s.oldest; c != nil; c = c.newer {
		if c.phase == phaseResolving && c.waiter.target != nil && c.waiter.target.key == key {
			return true
		}
	}
	return false
}

// whenEmpty returns what is closed once no connection is open.
func (s *connections) whenEmpty() <-chan struct{} {
	empty := make(chan struct{})
	if s.open == 0 {
		close(empty)
	} else {
		s.empty = empty
	}
	return empty
}

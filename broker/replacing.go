package broker

import (
	"context"
	"fmt"

	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/frame"
)

// This file is what waits while this broker may be replaced (successor.go), and goes on here
// where it is not.

// replacing is what an upgrade has put off.
type replacing struct {
	underWay bool     // no instance is started, and no service verb begins
	counts   bool     // the successor is to know of processes that have a connection to themselves
	started  func()   // called, once, when no instance is being started
	then     []func() // what goes on if this broker does; each looks whether it still applies
	// decided is closed when it is known who serves from now on; nil where nobody has been
	// told that he may. Until then this broker does not end: the name that it would remove may
	// be another's.
	decided chan struct{}
	awaited bool // somebody waits for that, who would have this broker end
}

// over says that it is known who serves.
func (r *replacing) over() {
	if r.decided != nil {
		close(r.decided)
		r.decided = nil
	}
}

// beginDraining begins to drain, for the reason cause, as soon as it is known who serves. It is
// Serve's.
func (s *server) beginDraining(cause error) {
	for {
		var decided <-chan struct{}
		s.jobs.asOwner(func() {
			if decided = s.replacing.decided; decided != nil {
				s.replacing.awaited = true
				return
			}
			s.draining = true
			s.emit(event.Draining{Cause: fmt.Sprint(cause), Connections: s.conns.open})
		})
		if decided == nil {
			return
		}
		s.jobs.await(context.Background(), decided)
	}
}

// whenStarted calls f as soon as no instance is being started. None is from now on.
func (s *server) whenStarted(next *successor, f func()) {
	s.replacing = replacing{underWay: true, counts: next.can&frame.CapPrograms != 0, started: f}
	s.startsChanged()
}

// nothingStarts reports whether the successor could know of all that there is.
func (s *server) nothingStarts() bool {
	return len(s.starts.pending) == 0 && (s.processes.launching == 0 || !s.replacing.counts)
}

// heldBack has the connection wait with its process until it is known who serves, and reports
// whether it does: the successor would not count that one. While an instance is being started,
// which may take a while, others are not held back.
func (c *connection) heldBack(t *target) bool {
	s := c.server
	if !s.replacing.counts || len(s.starts.pending) > 0 || s.successor != nil {
		return false
	}
	if len(s.waiting.connections[t.key]) >= s.waiting.most {
		c.refuseAndClose(t.request, overloaded())
		return true
	}
	c.waitUntil(c.deadline, waiter{target: t, heldBack: true})
	return true
}

// startsChanged is called when an instance is ready or is not going to be, or the process of a
// connection runs or is not going to.
func (s *server) startsChanged() {
	if f := s.replacing.started; f != nil && s.nothingStarts() {
		s.replacing.started = nil
		f()
	}
}

// goOn goes on with what an upgrade has put off that has failed.
func (s *server) goOn() {
	then := s.replacing.then
	s.replacing.over()
	s.replacing = replacing{}
	s.startAwaited()
	for _, c := range s.conns.all() {
		if c.phase == phaseWaiting && c.waiter.heldBack {
			c.resumeWaiting()
		}
	}
	for _, f := range then {
		f()
	}
	s.lookIdle()
}

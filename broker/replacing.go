package broker

import (
	"fmt"

	"github.com/seed-7265657e/usher/internal/event"
)

// This file is what waits while this broker may be replaced (successor.go), and goes on here
// where it is not.

// replacing is what an upgrade has put off.
type replacing struct {
	underWay bool     // no instance is started, and no service verb begins
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
		s.jobs.await(decided)
	}
}

// whenStarted calls f as soon as no instance is being started. None is from now on.
func (s *server) whenStarted(f func()) {
	s.replacing = replacing{underWay: true, started: f}
	s.startsChanged()
}

// startsChanged is called when an instance is ready, or is not going to be.
func (s *server) startsChanged() {
	if f := s.replacing.started; f != nil && len(s.starts.pending) == 0 {
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
	for _, f := range then {
		f()
	}
	s.lookIdle()
}

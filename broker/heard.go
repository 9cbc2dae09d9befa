package broker

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/transport"
)

// This file is what backends say of themselves, in notes on their channels.

// heard goes on with what a backend says of itself.
func (s *server) heard(e *entry, n transport.Note) {
	switch n.Kind {
	case transport.NoteReady:
		if starting := s.starts.pending[e.Key]; starting != nil && starting.entry == e && !filepath.IsAbs(n.Pipe) {
			s.notProven(starting, fmt.Errorf("it says that it serves %q, which is no absolute path", n.Pipe))
			return
		}
		s.becameReady(e, n.Pipe)
	case transport.NoteIdle:
		e.Handle.busy = false
		if e.Handle.inFlight == 0 && !s.conns.comesBackFor(e.Key) { // else a connection is on its way
			s.letGo(e, event.Idle)
		}
	case transport.NoteBusy:
		s.stays(e)
	case transport.NoteActive:
		if e.Handle.active = n.Active; n.Active == 0 {
			e.Handle.idleSince = time.Now()
		} else {
			e.Handle.busy = false // which is what it says when it has none
		}
	}
}

func (s *server) becameReady(e *entry, pipe string) {
	starting := s.starts.pending[e.Key]
	if starting == nil || starting.entry != e || starting.late || starting.stopped {
		return
	}
	e.Pipe = pipe
	s.backends.Add(e)
	s.startSucceeded(starting)
}

// startSucceeded ends the start of an instance that is in the registry.
func (s *server) startSucceeded(starting *starting) {
	e := starting.entry
	delete(s.starts.pending, e.Key)
	starting.settle()
	if e.Handle.channel == nil && e.Handle.socket == nil { // others have to prove more: see settled, endedReady and passedEnded
		s.starts.proven(e.Key)
	}
	defer s.startsChanged()
	s.emit(event.Ready{Backend: known(e), After: time.Since(e.Since)})
	s.ready(e.Key)
	if starting.over != nil {
		starting.over("")
	}
	s.endOthers(e)
}

package broker

import (
	"context"

	"github.com/seed-7265657e/usher/internal/event"
)

// This file is the wait of a broker that has a successor for the connections whose bytes pass
// through it: those that are relayed, and those that are joined to the pipes of a process. They
// can't be passed on, and have a broker of their own for as long as they last.

// joined are these connections.
type joined struct {
	relays int           // to a program with a listener of its own; some of them still connect there
	pipes  int           // to a process
	over   chan struct{} // closed when there is none any more; nil until somebody waits
}

// ended is called when one has ended.
func (j *joined) ended() {
	if j.over != nil && j.relays+j.pipes == 0 {
		close(j.over)
		j.over = nil
	}
}

// relayEnded is called when a connection is relayed no more, or is not going to be.
func (s *server) relayEnded() {
	s.joined.relays--
	s.joined.ended()
}

// awaitUnjoined waits, where there is a successor, until no connection is joined here, or ctx
// ends. It is Serve's, behind drainAll: no connection is joined any more.
func (s *server) awaitUnjoined(ctx context.Context) {
	over := make(chan struct{})
	looping := s.jobs.asOwner(func() {
		if s.successor == nil || s.joined.relays+s.joined.pipes == 0 {
			close(over)
			return
		}
		s.endListeners()
		s.emit(event.Stays{Connections: s.joined.relays + s.joined.pipes})
		s.joined.over = over
	})
	if !looping {
		s.unloop()
	}
	s.jobs.await(ctx, over)
}

// endListeners lets those programs go that end with this broker, although it has a successor:
// that one starts its own.
func (s *server) endListeners() {
	for _, e := range s.backends.All() {
		if e.Handle.listens && !e.Handle.gone() {
			s.letGo(e, event.Replaced)
		}
	}
}

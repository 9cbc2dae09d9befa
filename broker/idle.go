package broker

import (
	"context"
	"errors"
	"time"

	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/launch"
	"github.com/seed-7265657e/usher/internal/transport"
)

// This file is the end of what is no longer needed: a backend, and the broker.

// letGo has a backend serve what it has, and end; what was offered to it before, it takes
// in. One without a channel can't be told: its process is asked to end, and ended after listenerGrace.
// Who asks from now on is served by its successor. It is false where the backend gets no
// connections already.
func (s *server) letGo(e *entry, why string) bool {
	if !s.backends.Remove(e) {
		return false
	}
	e.Handle.letGo = true
	if !e.Handle.exited {
		s.leaving[e] = true
	}
	s.waiting.expect(e.Key, time.Now())
	s.starts.proven(e.Key) // it was ready, and ends because it was told to
	if e.Handle.channel == nil {
		s.endProgram(e.Handle.program)
	} else {
		s.sayDrain(e.Handle)
	}
	s.emit(event.LetGo{Backend: known(e), Why: why})
	return true
}

// stays notes that a backend without a connection is at work. It gets connections as ever,
// and says again how it is when it has had none for its idle time once more. One that was let
// go ends behind its work.
func (s *server) stays(e *entry) {
	if !e.Handle.busy && !e.Handle.letGo {
		s.emit(event.Busy{Backend: known(e)})
	}
	e.Handle.busy = true
}

// notEnded says why the process of a backend that was let go lives on.
func (b *backend) notEnded() string {
	if b.busy && b.active == 0 {
		return "is at work, and has not ended yet"
	}
	return "has not ended yet"
}

// endProgram has a process that was started here end, with its group. Serve waits for that.
func (s *server) endProgram(p *launch.Process) {
	ctx := context.WithoutCancel(s.jobs.work)
	s.jobs.wg.Go(func() { p.End(ctx, listenerGrace) })
}

// sayDrain tells a backend that it is let go. A channel that is full is that of one that
// does not read; it is told when it does. One that does not take it otherwise has ended,
// and so has the backend, or will.
func (s *server) sayDrain(h *backend) {
	h.drainOwed = errors.Is(h.channel.Say(transport.Note{Kind: transport.NoteDrain}), errno.EAGAIN)
}

var errIdle = errors.New("nothing to serve")

// lookIdle has tickIdle called when it is time.
func (s *server) lookIdle() { s.loop.WakeAt(s.tickIdle(time.Now())) }

// tickIdle ends a broker that has had nothing to do for its time, and returns when to look
// again.
func (s *server) tickIdle(now time.Time) (next time.Time) {
	if s.opts.IdleExit <= 0 || s.draining || s.replacing.underWay { // goOn looks again
		return time.Time{}
	}
	if s.conns.open > 0 || s.backends.Len() > 0 || len(s.starts.pending) > 0 || s.processes.all > 0 || s.joined.relays > 0 {
		s.quietSince = time.Time{}
		return time.Time{} // lookIdle is called when that ends
	}
	if s.quietSince.IsZero() {
		s.quietSince = now
	}
	patience := s.opts.IdleExit
	if !s.asked {
		patience = max(patience, s.opts.FirstHello)
	}
	if by := s.quietSince.Add(patience); now.Before(by) {
		return by
	}
	s.shutDown(errIdle)
	return time.Time{}
}

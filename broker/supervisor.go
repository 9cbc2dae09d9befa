package broker

import (
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
)

// Supervisor is told how a broker fares: a service manager that restarts it when it is
// stuck. The broker's loop calls the functions, so that they say something about the loop
// and not only about the process; they must not block, and may be nil.
type Supervisor struct {
	// Serving is called once the loop accepts clients, Draining once it does no longer.
	Serving, Draining func()
	// Succeeded is called when another broker has taken this one's place, before Draining.
	Succeeded func(pid int)
	// Alive is called every AliveEvery, for as long as the loop runs. Zero: never, and the
	// broker wakes up for nobody's sake.
	Alive      func()
	AliveEvery time.Duration
}

// bind makes the broker's socket, or takes the one that it was given.
func (o *Options) bind() (b *endpoint.Binding, err error) {
	switch {
	case o.Predecessor != nil:
		return o.Predecessor.bind(o.Socket)
	case o.Listener == nil:
		return endpoint.Bind(o.Socket)
	}
	return endpoint.Adopt(o.Socket, o.Listener, o.KeepName)
}

// keepsName reports whether the socket's name is somebody else's.
func (s *server) keepsName() bool {
	if p := s.opts.Predecessor; p != nil {
		return p.keepName
	}
	return s.opts.KeepName
}

// closeListener closes what Listen was given and could not use, for the reason why.
func (o *Options) closeListener(why error) {
	if o.Predecessor != nil {
		o.Predecessor.fail(why)
	}
	if o.Listener != nil {
		_ = o.Listener.Close()
	}
}

// Listener lends the socket that the broker listens on, which stays the broker's.
func (b *Broker) Listener() syscall.Conn { return b.server.binding.Listener }

// tellServing begins what the supervisor is told.
func (s *server) tellServing() {
	if s.opts.Supervisor.Serving != nil {
		s.opts.Supervisor.Serving()
	}
	s.loop.WakeAt(s.tellAlive(time.Now()))
}

func (s *server) tellDraining() {
	if s.opts.Supervisor.Draining != nil {
		s.opts.Supervisor.Draining()
	}
}

// tellAlive tells the supervisor that the loop runs, when it is time, and returns when it
// will be next.
func (s *server) tellAlive(now time.Time) (next time.Time) {
	supervisor := &s.opts.Supervisor
	if supervisor.AliveEvery <= 0 || supervisor.Alive == nil {
		return time.Time{}
	}
	if !now.Before(s.aliveAt) {
		supervisor.Alive()
		s.aliveAt = now.Add(supervisor.AliveEvery)
	}
	return s.aliveAt
}

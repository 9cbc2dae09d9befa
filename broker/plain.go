package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/mod/semver"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/loop"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wait"
	"github.com/seed-7265657e/usher/internal/watch"
	"github.com/seed-7265657e/usher/internal/wire"
)

// A service may have a socket of its own, for clients that know nothing of usher: who
// connects there says no Hello, and is told nothing but what the program says. Steps 1 and 2
// of a connection's life, accept and hello, are here; from step 3 on it is one like any
// other, whose refusal is its end.

// plainSocket is such a socket. The binding is closed by whoever takes it out of the server.
type plainSocket struct {
	service, version string
	passed           bool // to a program, which accepts in the broker's place
	handedOn         bool // to a successor: it is not this broker's any more
	failing          bool // nothing has come of it for want of descriptors
	binding          *endpoint.Binding
	acceptor         *loop.Acceptor
}

// acceptPlain is accept for a socket of one service.
func (s *server) acceptPlain(p *plainSocket) {
	s.acceptFrom(p.acceptor, func(c *sock.Conn) { s.admitPlain(p, c) })
}

// admitPlain is admit for a connection whose Hello is known. It owns c.
func (s *server) admitPlain(p *plainSocket, c *sock.Conn) {
	conn := s.checked(c, func(c *sock.Conn, pid int) {
		refusal := overloaded()
		s.emit(event.Refused{Code: refusal.Code.String(), Reason: refusal.Reason, PID: pid, Unread: true})
		_ = c.Close()
	})
	if conn == nil {
		return
	}
	conn.plain, conn.socket, conn.service = true, p, p.service
	conn.enter(phaseResolving, conn.deadline)
	if conn.passFrame(nil) { // it is from this broker's predecessor, who has not ended yet
		return
	}
	conn.resolve(new(wire.Frame), &wire.Hello{
		ServiceName: p.service, WantedVersion: p.version, ClientCapabilities: frame.CapUsher | frame.CapHandlePassing,
	})
}

// lowestVersion is what those ask for who can't, of a service without any rule about
// versions.
const lowestVersion = "0.0.0"

// plainVersion is what those get who can't ask: the highest version that the definition
// names.
func plainVersion(d *service.Definition) string {
	if len(d.VersionAllowList) > 0 {
		return slices.MaxFunc(d.VersionAllowList, func(a, b string) int { return semver.Compare("v"+a, "v"+b) })
	}
	if d.MinVersion != "" {
		return d.MinVersion
	}
	return lowestVersion
}

// Pauses between two tries to bind, the first and the longest: another broker, which this
// one succeeds, may be about to leave the path.
const (
	firstRebind = 20 * time.Millisecond
	lastRebind  = 5 * time.Second
)

// plainSockets are those that are bound, for the goroutine that binds them.
type plainSockets struct {
	server  *server
	bound   map[string]*plainSocket // by path
	problem map[string]string       // what has been said of a service
}

// watchPlain binds the sockets that the definitions name, and closes those that they name no
// more, whenever something has happened to them.
//
// It is a goroutine of its own, for it reads files. What it has bound is the loop's. Without
// w it looks now and then, for the reason err.
func (s *server) watchPlain(ctx context.Context, w *watch.Waiter, err error) {
	if err != nil {
		s.jobs.post(func() { s.emit(event.Unwatched{Problem: err.Error()}) })
	} else {
		defer w.Close()
	}
	sockets := plainSockets{s, make(map[string]*plainSocket), make(map[string]string)}
	select {
	case <-s.opens: // a predecessor has them until then
	case <-ctx.Done():
	}
	s.jobs.asked(func() { maps.Copy(sockets.bound, s.plain) })
	pause := firstRebind
	for ctx.Err() == nil {
		watched := w != nil && w.AddName(s.opts.DefinitionDir) == nil // first: what happens after the look is told
		for path := range sockets.bound {
			watched = watched && w.AddName(path) == nil
		}
		var patience time.Duration // for ever, where a watch tells
		all, opened := sockets.update()
		if opened { // whose names are to be watched
			continue
		}
		switch {
		case !all:
			patience, pause = pause, min(2*pause, lastRebind)
		case !watched:
			patience = socketCheck
		default:
			pause = firstRebind
		}
		await(ctx, w, patience)
	}
}

// await returns as soon as something has happened that w tells, which may be nil, and after
// patience, unless that is 0.
func await(ctx context.Context, w *watch.Waiter, patience time.Duration) {
	if patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	if w == nil || w.Wait(ctx) != nil {
		wait.For(ctx, socketCheck)
	}
}

// update has bound what the definitions name, all of it unless something could not be; opened
// says that there is a new one.
func (p *plainSockets) update() (all, opened bool) {
	listed, err := service.List(p.server.opts.DefinitionDir)
	if err != nil {
		return false, false
	}
	wanted := make(map[string]*plainSocket)
	for _, l := range listed {
		path, next := p.names(l)
		if next == nil {
			continue
		}
		if first := wanted[path]; first != nil {
			p.fail(l.Name, path, fmt.Sprintf("it is the socket of service %s", first.service))
			continue
		}
		wanted[path] = next
	}
	for path, old := range p.bound {
		if next := wanted[path]; next == nil || next.service != old.service || next.version != old.version || next.passed != old.passed || errors.Is(old.binding.Check(), ErrReplaced) {
			p.close(path, old)
		}
	}
	all = true
	for path, next := range wanted {
		if p.bound[path] == nil {
			all = p.open(path, next) && all
			opened = opened || p.bound[path] != nil
		}
	}
	return all, opened
}

// names is the socket that a definition names. One that can't be read, for it may be about to
// be written, names what it did.
func (p *plainSockets) names(l service.Listed) (path string, next *plainSocket) {
	var start *service.StartPolicy
	var instance endpoint.Instance
	err := l.Err
	if err == nil {
		start, err = l.Definition.StartPolicy()
	}
	if err == nil {
		instance, err = l.Definition.Instance()
	}
	switch {
	case err != nil:
		for path, old := range p.bound {
			if old.service == l.Name {
				return path, &plainSocket{service: old.service, version: old.version, passed: old.passed}
			}
		}
		return "", nil
	case start == nil || start.Listen == "" || instance.String() != p.server.opts.Instance:
		return "", nil
	}
	return start.Listen, &plainSocket{service: l.Name, version: plainVersion(l.Definition), passed: start.Mode == service.ListenFDs}
}

func (p *plainSockets) open(path string, next *plainSocket) bool {
	s := p.server
	binding, err := endpoint.Bind(path)
	if err == nil {
		next.binding = binding
		opened := false
		if s.jobs.asked(func() { opened = s.openPlain(next) }); opened {
			p.bound[path] = next
			delete(p.problem, next.service)
			return true
		}
		_ = binding.Close()
		return true // the broker ends
	}
	p.fail(next.service, path, err.Error())
	return false
}

// fail says what is new.
func (p *plainSockets) fail(service, path, problem string) {
	if p.problem[service] != problem {
		p.problem[service] = problem
		s := p.server
		s.jobs.post(func() { s.emit(event.ListenFailed{Service: service, Path: path, Problem: problem}) })
	}
}

func (p *plainSockets) close(path string, old *plainSocket) {
	s := p.server
	delete(p.bound, path)
	_ = old.binding.Unlink() // else somebody may connect behind the last that is accepted
	s.jobs.asked(func() { s.leavePlain(old) })
	_ = old.binding.Close()
}

// openPlain begins to accept; it is false when the broker ends.
func (s *server) openPlain(p *plainSocket) bool {
	from, err := p.binding.Accepting()
	if err != nil || s.draining || s.successor != nil {
		return false
	}
	p.acceptor = loop.NewAcceptor(s.loop, from, func() {
		if p.passed {
			s.wanted(p)
		} else {
			s.acceptPlain(p)
		}
	})
	if s.plain == nil {
		s.plain = make(map[string]*plainSocket)
	}
	s.plain[p.binding.Path] = p
	if !s.isPassed(p) { // by a predecessor
		p.acceptor.Start()
	}
	s.emit(event.Listening{Service: p.service, Path: p.binding.Path})
	return true
}

// leavePlain accepts what is still in the queue, and then no more. It may be called again.
func (s *server) leavePlain(p *plainSocket) {
	if s.plain[p.binding.Path] != p {
		return
	}
	delete(s.plain, p.binding.Path)
	s.stopPlain(p)
	s.endPassed(p)
	s.emit(event.ListenEnded{Service: p.service, Path: p.binding.Path})
}

func (s *server) stopPlain(p *plainSocket) {
	p.acceptor.Stop()
	if p.passed { // the queue is the program's
		return
	}
	for {
		c, err := p.acceptor.Accept()
		if err != nil {
			return
		}
		s.admitPlain(p, c)
	}
}

// drainPlain is drain for the sockets of services. Who is in their queues is served: it
// can't be told to come again.
func (s *server) drainPlain() {
	for _, p := range s.plain {
		s.stopPlain(p)
	}
}

// unlinkPlain removes the names of the sockets of services, and closePlain closes them:
// before and behind drainPlain. They are Serve's.
func (s *server) unlinkPlain() {
	var all []*plainSocket
	s.jobs.asOwner(func() { all = slices.Collect(maps.Values(s.plain)) })
	for _, p := range all {
		_ = p.binding.Unlink()
	}
}

func (s *server) closePlain() {
	var all map[string]*plainSocket
	s.jobs.asOwner(func() { all, s.plain = s.plain, nil }) // nobody uses a descriptor that is closed
	for _, p := range all {
		_ = p.binding.Close()
	}
}

package broker

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/launch"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/splice"
	"github.com/seed-7265657e/usher/internal/window"
)

// byProcess starts a process for the connection, which is its standard input and output:
// the live connection, whose SO_PEERCRED is the client's, or pipes that the broker joins to
// it.
//
// There is no claim, for nobody competes: the process that is started is the only one that
// ever gets the connection, and until it runs the broker has it to itself. So nothing has
// been read before the client is answered, early data included; a refusal says for certain
// that nothing has run; and the broker never tries again. What is lost against a handoff
// with a claim: a process that dies at once leaves the outcome unknown.
type byProcess struct{}

func (byProcess) leadsTo(t *target) bool { return t.start.PerConnection() }

// deliver has the process held when it is known to run, the client answered, and the
// process let go; what can't be started is refused instead. All processes that there may
// be may be busy: then the connection waits.
func (byProcess) deliver(c *connection) {
	s, o := c.server, &c.offer
	t, now := o.target, time.Now()
	if most := s.processes.full(t, s.opts.MaxBackends); most > 0 {
		c.awaitRoom(t, most, now)
		return
	}
	if most := t.start.MaxPerSecond; most > 0 {
		if retry, ok := s.processes.begun.Allow(t.key.Service, most, now); !ok {
			c.refuseAndClose(t.request, hello.RateLimited(retry))
			return
		}
	}
	var first []byte
	if !c.plain {
		var err error
		if first, err = firstWords(t, o.id); err != nil {
			c.refuseAndClose(t.request, hello.StartFailed(err.Error(), 0))
			return
		}
	}
	s.processes.add(t.key.Service, 1)
	c.steps.mark("issue")
	c.enter(phaseOffered, c.deadline)
	job, p, conn, piped := s.launching(t.key), definedProgram(t), c.conn, t.start.Mode == service.Stdio
	begun := offload(c, false, func(ctx context.Context) served {
		defer p.close()
		return job.serve(ctx, p, conn, piped, first)
	}, c.served, func(r served) { s.unserved(t, r) })
	if !begun {
		s.processes.add(t.key.Service, -1)
		c.refuseAndClose(t.request, hello.ShuttingDown())
	}
}

// ownProcess stands for the process that a connection of t will have, where otherwise there
// is a backend. It is never in the registry.
func ownProcess(t *target) *entry {
	return &entry{Key: t.key, ExePath: t.definition.BinaryPath, ExeHash: t.build, Pipe: t.start.Listen, Handle: new(backend)}
}

// firstWords are what a client that said Hello is told before the process says anything, as a backend
// that adopts does.
func firstWords(t *target, id uint64) ([]byte, error) {
	var token handoff.Token
	if _, err := rand.Read(token[:]); err != nil {
		return nil, err
	}
	return preamble(t, id, token)
}

// served is the result of the job that starts a process for a connection.
type served struct {
	process  launched
	pipes    *splice.Pipes // its standard input and output, where they are not the connection
	answered bool          // the client may have been told that it is served
	err      error
}

// serve is the job.
func (j launching) serve(ctx context.Context, p *program, conn *sock.Conn, piped bool, first []byte) (r served) {
	l, log, err := j.open(ctx, p)
	if r.process, r.err = l, err; err != nil {
		return r
	}
	defer log.Close()
	spec := j.spec(p, log)
	if piped {
		r.pipes, spec.Stdin, spec.Stdout, r.err = splice.NewPipes()
	} else {
		spec.Stdin, r.err = conn.Inheritable()
		spec.Stdout = spec.Stdin
	}
	if r.err != nil {
		return r
	}
	defer spec.Stdout.Close()
	defer spec.Stdin.Close()
	if first != nil {
		spec.Run = func() error {
			n, err := sendNow(conn, first)
			r.answered = n > 0
			return err
		}
	}
	if r.process.Process, r.err = launch.Start(spec); r.err != nil && piped {
		_ = r.pipes.Close()
	}
	return r
}

// served goes on when the process runs, or could not be started.
func (c *connection) served(r served) {
	s, t := c.server, c.offer.target
	fact := event.Handoff{
		ConnectionID: c.offer.id, Backend: known(t.backend), Verdict: string(handoff.Adopted), Stage: string(handoff.StageSend),
		FDReachedBackend: true,
	}
	if r.err != nil {
		s.unserved(t, r)
		fact.Verdict, fact.FDReachedBackend, fact.Problem = string(handoff.NotTaken), false, r.err.Error()
		s.emit(fact)
		s.emit(event.ProcessStarted{ConnectionID: c.offer.id, Backend: fact.Backend, Problem: r.err.Error()})
		switch {
		case r.answered:
			c.noteWrite(r.err)
		case s.pressure.failed(r.err):
			c.refuse(t.request, hello.FDPressure())
		default:
			c.refuse(t.request, hello.StartFailed(fmt.Sprintf("%s can't be started: %v", t.key.Service, r.err), 0))
		}
		c.close()
		return
	}
	fact.Backend.PID = r.process.PID()
	s.emit(event.ProcessStarted{ConnectionID: c.offer.id, Backend: fact.Backend, Log: r.process.log})
	s.emit(fact)
	near, work := c.conn, s.jobs.work
	c.given = r.pipes != nil
	c.close()
	if r.pipes == nil {
		s.jobs.wg.Go(func() { s.awaitProcess(fact.Backend, r.process) })
		return
	}
	_ = near.SetDeadline(time.Time{})
	ctx, cancel := context.WithCancel(work)
	s.jobs.wg.Go(func() { _ = splice.Join(ctx, near, r.pipes) }) // who is joined sees the end
	s.jobs.wg.Go(func() {
		defer cancel()
		s.awaitProcess(fact.Backend, r.process)
		select { // nobody reads what the client still sends
		case <-r.pipes.Silent():
		case <-ctx.Done():
		}
	})
}

// unserved is for a process that was not started, or whose connection ended meanwhile: then
// it has that to itself all the same, and its end is nobody's to see, for the broker ends.
func (s *server) unserved(t *target, r served) {
	if r.err == nil {
		r.process.Release()
		if r.pipes != nil {
			_ = r.pipes.Close()
		}
	}
	s.processes.add(t.key.Service, -1)
	s.roomMade()
}

// awaitProcess is the job that sees the end of a process. It ends with the broker's work,
// and the process lives on.
func (s *server) awaitProcess(b event.Backend, l launched) {
	exit, err := l.Wait(s.jobs.work)
	if err != nil {
		l.Release()
		return
	}
	s.jobs.post(func() {
		s.emit(event.ProcessEnded{Backend: b, Exit: exit.String(), Failed: exit != launch.Exit{}})
		s.processes.add(b.Service, -1)
		s.roomMade()
		s.lookIdle()
	})
}

// processes counts those that have a connection to themselves, by service, with those that
// are about to be started. It is the loop's.
type processes struct {
	all   int
	of    map[string]int
	begun *window.Counter[string]
}

func newProcesses() processes {
	return processes{of: make(map[string]int), begun: window.New[string](time.Second)}
}

func (p *processes) add(service string, n int) {
	p.all += n
	if p.of[service] += n; p.of[service] == 0 {
		delete(p.of, service)
	}
}

// full returns how many there may be when there is no room for one more for t, and else 0.
func (p *processes) full(t *target, most int) int {
	switch own := t.start.MaxInstances; {
	case own > 0 && p.of[t.key.Service] >= own:
		return own
	case p.all >= most:
		return most
	}
	return 0
}

// awaitRoom has the connection wait until a process ends, for as long as it would wait for a
// backend.
func (c *connection) awaitRoom(t *target, most int, now time.Time) {
	s := c.server
	switch {
	case s.draining:
		c.refuseAndClose(t.request, hello.ShuttingDown())
	case len(s.waiting.connections[t.key]) >= s.waiting.most:
		c.refuseAndClose(t.request, hello.Full(most))
	default:
		c.waitUntil(now.Add(s.waiting.time), waiter{target: t, full: hello.Full(most)})
	}
}

// stillFull is what the end of that time means.
func (c *connection) stillFull() {
	if t := c.waiter.target; c.server.processes.full(t, c.server.opts.MaxBackends) > 0 {
		c.stopWaiting(c.waiter.full)
		return
	}
	c.resumeWaiting()
}

// roomMade lets one of those go on who wait for room, the first of its service.
func (s *server) roomMade() {
	for {
		c := s.firstWithRoom()
		if c == nil {
			return
		}
		if c.resumeWaiting(); c.phase != phaseClosed {
			return
		}
	}
}

func (s *server) firstWithRoom() *connection {
	for _, all := range s.waiting.connections {
		if c := all[0]; c.waiter.full != nil && s.processes.full(c.waiter.target, s.opts.MaxBackends) == 0 {
			return c
		}
	}
	return nil
}

// resumeWaiting resolves anew a connection that waits.
func (c *connection) resumeWaiting() {
	c.leaveQueue()
	c.resolveAnew()
}

package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/launch"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/splice"
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
	if c.heldBack(t) {
		return
	}
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
	s.processes.launching++
	c.steps.mark("issue")
	c.enter(phaseOffered, c.deadline)
	job, p, conn, piped, taken := s.launching(t.key), definedProgram(t), c.conn, t.start.Mode == service.Stdio, new(atomic.Bool)
	open := s.takeKept(t)
	o.taken = taken
	begun := offload(c, true, func(ctx context.Context) served { // its file system may never answer
		defer open.kept.release()
		return job.serve(ctx, p, open, conn, piped, first, taken)
	}, c.served, func(r served) { s.unserved(t, r) })
	if !begun {
		open.kept.release()
		s.processes.add(t.key.Service, -1)
		s.processLaunched()
		c.refuseAndClose(t.request, hello.ShuttingDown())
	}
}

// reclaim takes a connection back that a process is being started for, and reports whether it
// is the loop's: from when on the process may have it, or its client may have been told so,
// it is not. Of two who ask, one gets it.
func (c *connection) reclaim() bool {
	return c.offer.taken == nil || c.offer.taken.CompareAndSwap(false, true)
}

var errReclaimed = errors.New("its time was over before it could be started")

// ownProcess stands for the process that a connection of t will have, where otherwise there
// is a backend. It is never in the registry.
func ownProcess(t *target) *entry {
	return &entry{Key: t.key, ExePath: t.definition.BinaryPath, ExeHash: t.build, Pipe: t.start.Listen, Handle: &backend{alone: true}}
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
	open     *kept         // what it was started from, for the next one
	era      uint64        // with that
	pipes    *splice.Pipes // its standard input and output, where they are not the connection
	answered bool          // the client may have been told that it is served
	err      error
}

// serve is the job. It takes the connection with taken, see reclaim.
func (j launching) serve(ctx context.Context, p *program, open lent, conn *sock.Conn, piped bool, first []byte, taken *atomic.Bool) (r served) {
	r.era = open.era
	if r.process, r.open, r.err = j.openKept(ctx, p, open); r.err != nil {
		return r
	}
	spec := j.spec(p, r.open.log)
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
	take := func() error {
		if !taken.CompareAndSwap(false, true) {
			return errReclaimed
		}
		return nil
	}
	if first != nil {
		spec.Run = func() error {
			if err := take(); err != nil {
				return err
			}
			n, err := sendNow(conn, first)
			r.answered = n > 0
			return err
		}
	} else {
		r.err = take()
	}
	if r.err == nil {
		r.process.Process, r.err = launch.Start(spec)
	}
	if r.err != nil && piped {
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
	s.keep(t, r.open, r.era)
	near := c.conn
	c.given = r.pipes != nil
	c.close()
	s.watchLog(r.process.log)
	e := t.backend
	e.PID, e.Since = r.process.PID(), time.Now()
	e.Handle.process, e.Handle.program, e.Handle.log = r.process.Handle(), r.process.Process, r.process.log
	s.processes.running[e] = true
	e.Handle.joined = r.pipes != nil
	s.processLaunched()
	if e.Handle.letGo { // meanwhile
		s.askToEnd(e)
	}
	if r.pipes == nil {
		s.jobs.wg.Go(func() { s.awaitProcess(e, r.process, func() { s.roomLeft(e) }) })
		return
	}
	s.joinPipes(near, r, e)
}

// joinPipes joins a connection to the pipes of its process, until both are silent. A process
// that has ended may have left one behind which still has the pipes: the connection is
// theirs, and counts, until they have closed them.
func (s *server) joinPipes(near *sock.Conn, r served, e *entry) {
	s.joined.pipes++
	ctx, cancel := context.WithCancel(s.jobs.work)
	var both sync.WaitGroup
	both.Go(func() { _ = splice.Join(ctx, near, r.pipes) }) // who is joined sees the end
	both.Go(func() {
		defer cancel()
		s.awaitProcess(e, r.process, func() {})
		select { // nobody reads what the client still sends
		case <-r.pipes.Silent():
		case <-ctx.Done():
		}
	})
	s.jobs.wg.Go(func() {
		both.Wait()
		s.jobs.post(func() {
			s.joined.pipes--
			s.joined.ended()
			s.roomLeft(e)
		})
	})
}

// unserved is for a process that was not started, or whose connection ended meanwhile: then
// it has that to itself all the same, and its end is nobody's to see, for the broker ends.
func (s *server) unserved(t *target, r served) {
	r.open.release()
	if r.err == nil {
		r.process.Release()
		if r.pipes != nil {
			_ = r.pipes.Close()
		}
	}
	if s.jobs.ended() { // this is the job's own goroutine, and the room is nobody's
		return
	}
	s.processes.add(t.key.Service, -1)
	s.processLaunched()
	s.instanceEnded(t.backend)
	s.roomMade()
}

// awaitProcess is the job that sees the end of a process, and calls then on the loop. It ends
// with the broker's work, and the process lives on.
func (s *server) awaitProcess(e *entry, l launched, then func()) {
	exit, err := l.Wait(s.jobs.work)
	if err != nil {
		l.Release()
		return
	}
	s.jobs.post(func() {
		e.Handle.exited = true
		delete(s.processes.running, e)
		if e.Handle.joined {
			s.processes.behind[e] = true // until its room is another's
		}
		if !e.Handle.passed { // else the successor sees it, too, and says so
			s.emit(event.ProcessEnded{Backend: known(e), Exit: exit.Known(), Failed: exit.Failed() && !e.Handle.letGo})
		}
		s.unwatchLog(l.log)
		s.instanceEnded(e)
		then()
	})
}

// roomLeft has the room of a process be another's.
func (s *server) roomLeft(e *entry) {
	e.Handle.unjoined()
	delete(s.processes.behind, e)
	s.processes.add(e.Service, -1)
	s.roomMade()
	s.lookIdle()
}

// endProcess has a process end whatever it has with its client.
func (s *server) endProcess(e *entry) {
	if !e.Handle.letGo {
		e.Handle.letGo = true
		s.askToEnd(e)
	}
}

func (s *server) askToEnd(e *entry) {
	s.endProgram(e.Handle.program)
	s.emit(event.LetGo{Backend: known(e), Why: event.AtWill})
}

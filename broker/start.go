package broker

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/launch"
	"github.com/seed-7265657e/usher/internal/logfile"
	"github.com/seed-7265657e/usher/internal/loop"
	"github.com/seed-7265657e/usher/internal/registry"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/transport"
	"github.com/seed-7265657e/usher/internal/wire"
)

// This file is the start of an instance: once for all who wait for it (step 4, wait), and
// with one result for all of them. It is told by the instance that it is ready, by its
// pidfd that it has ended; nothing is polled.
//
//	launching ──the process runs──▶ starting ──NoteReady──▶ in the registry
//	    └─────────────────────────────┴──ends, or takes too long──▶ failed: all are refused
//
// All of it is the loop's, but for the jobs that start a process, wait for its end, and
// read its log.

// starts are the instances that are not ready yet, and how often each was tried.
type starts struct {
	pending map[registry.Key]*starting
	budget  map[registry.Key]tries
}

type starting struct {
	entry    *entry
	process  *launch.Process // nil while launching
	known    chan struct{}   // closed when launching is over
	deadline time.Time
	late     bool // and being ended
	stopped  bool // at will, before its deadline
	// succeeded: another takes its place, and who waits for it gets that one.
	succeeded bool
	problem   string // why, where it is neither
	endpoint  string // of its v1 exchange; "" for none
	// over is called when it is ready, or, with the reason, has failed; nil where nobody
	// but clients waits.
	over    func(why string)
	answers func() bool        // waits until a program with a listener of its own is ready; nil for others
	settled context.CancelFunc // ends that wait
}

// endGrace is how long an instance has to end by itself once it has been asked to.
const endGrace = 500 * time.Millisecond

func newStarts() starts {
	return starts{pending: make(map[registry.Key]*starting), budget: make(map[registry.Key]tries)}
}

// resolveOwnBuild is step 3, resolve, for a client that asks for its own build.
func (c *connection) resolveOwnBuild(f *wire.Frame, h *wire.Hello) {
	if !c.server.opts.OwnBuilds {
		c.refuseAndClose(f, hello.NoOwnBuilds())
		return
	}
	c.readDefinition(f, h, roomForReading)
}

// awaitStart has the connection wait for an instance, and starts it where nobody has.
func (c *connection) awaitStart(t *target, d *definition) {
	s, now := c.server, time.Now()
	starting := s.starts.pending[t.key]
	switch {
	case c.passFrame(t.request):
		return
	case s.draining:
		c.refuseAndClose(t.request, hello.ShuttingDown())
		return
	case len(s.waiting.connections[t.key]) >= s.waiting.most:
		c.refuseAndClose(t.request, overloaded())
		return
	case starting == nil && (s.orphans.awaited(now) || s.replacing.underWay && (!c.plain || c.socket.handedOn)):
		// An instance of the broker before this one may be about to register, or the one
		// behind it is to start it. A plain client whose socket has not been offered has it
		// started: the offer waits for that, or he can't be passed on.
		by := s.orphans.by
		if s.replacing.underWay {
			by = c.deadline
		}
		later := *d
		d.program = nil
		c.waitUntil(by, waiter{target: t, starts: &later})
		return
	case starting == nil:
		why, retry, ok := s.starts.allow(t.key, now)
		if !ok {
			c.refuseAndClose(t.request, hello.StartFailed(why, retry))
			return
		}
		var err error
		if starting, err = s.start(t, d, now, 0); s.pressure.failed(err) {
			c.refuseAndClose(t.request, hello.FDPressure())
			return
		}
		if err != nil {
			c.refuseAndClose(t.request, hello.StartFailed(fmt.Sprintf("%s can't be started: %v", t.key.Service, err), sameFailure))
			return
		}
	}
	c.waitUntil(starting.deadline.Add(2*endGrace), waiter{target: t}) // and is told by then how it ended
}

// startAnother resolves the connection anew where its backend has been seen to end and
// another can be started: nobody else would come. It does so once, and reports whether.
func (c *connection) startAnother(t *target) bool {
	if !t.starts || c.again || c.server.draining {
		return false
	}
	c.again = true
	if c.phase != phaseResolving {
		c.enter(phaseResolving, time.Now().Add(c.server.opts.HelloTimeout)) // that of the acknowledgement is no more
	}
	c.resolve(t.request, t.hello) // where the one that has ended is not found again
	return true
}

// start begins to start an instance for t, in whose place so many others are to go.
func (s *server) start(t *target, d *definition, now time.Time, others int) (*starting, error) {
	if err := s.mayStart(t.key, d, others); err != nil {
		return nil, err
	}
	if d.start.OwnListener() {
		return s.startListener(t, now)
	}
	h := newBackend(nil, d.own)
	v1 := d.start != nil && d.start.V1
	var given []*sock.FD
	if !v1 {
		ch, far, err := transport.NewChannel(s.handoffs)
		if err != nil {
			return nil, err
		}
		h.channel, h.left, h.takesNotes = ch, make(chan left, 1), true
		given = append(given, far)
		if page, err := ch.SharePage(); err == nil {
			given = append(given, page)
		}
	}
	p := d.takeProgram(t)
	e := &entry{Key: t.key, ExePath: p.path, Since: now, Handle: h}
	starting := &starting{entry: e, known: make(chan struct{}), deadline: now.Add(p.startTimeout())}
	if v1 {
		starting.endpoint = d.start.HandoffEndpoint
	}
	s.starts.pending[t.key] = starting
	s.starts.begun(t.key, now)
	s.loop.WakeAt(starting.deadline)
	job := s.launching(t.key)
	job.v1 = v1
	work := s.jobs.work
	s.jobs.readers.Go(func() { // its file system may never answer
		defer p.close()
		l, err := job.launch(work, p, given)
		failpoint.Hit(failpoint.BrokerLaunched)
		if !s.jobs.post(func() { s.launched(starting, l, err) }) && err == nil {
			l.Release() // it looks for the next broker
		}
	})
	return starting, nil
}

// mayStart holds the bounds: those of the broker, and that of the definition.
func (s *server) mayStart(key registry.Key, d *definition, others int) error {
	if n := s.backends.Len() + len(s.starts.pending) - others; n >= s.opts.MaxBackends {
		return fmt.Errorf("%d backends live already", n)
	}
	if d.start == nil || d.start.MaxInstances == 0 {
		return nil
	}
	n := -others
	for _, e := range s.backends.All() {
		if e.Service == key.Service && !e.Handle.gone() {
			n++
		}
	}
	for _, starting := range s.starts.pending {
		if starting.entry.Service == key.Service {
			n++
		}
	}
	if n >= d.start.MaxInstances {
		return fmt.Errorf("%d instances live already, and its definition allows no more", n)
	}
	return nil
}

// launched goes on when the process runs, or could not be started.
func (s *server) launched(starting *starting, l launched, err error) {
	e := starting.entry
	close(starting.known)
	switch {
	case s.pressure.failed(err): // which says nothing about the program, and passes
		e.Handle.vacate()
		s.starts.forget(e.Key)
		s.notStarted(starting, err.Error(), hello.FDPressure())
		s.backendLeft(e, nil)
		s.instanceEnded(e)
		return
	case err != nil:
		why := fmt.Sprintf("%s can't be started: %v", e.Service, err)
		if starting.stopped {
			why = stoppedEarly(e)
		}
		e.Handle.vacate()
		s.startFailed(starting, why)
		s.backendLeft(e, nil)
		s.instanceEnded(e)
		return
	case s.jobs.work.Err() != nil: // the broker has ended: this one looks for the next
		s.jobs.wg.Go(func() { s.leave(e, l) })
		s.backendLeft(e, nil)
		return
	}
	starting.process, e.PID, e.Handle.process = l.Process, l.PID(), l.Handle()
	if e.Handle.channel == nil {
		e.Handle.program = l.Process
	}
	e.Handle.child = true
	e.ExePath, e.ExeHash, e.Handle.log = cmp.Or(l.program.named, l.program.path), l.program.build, l.log
	s.emit(event.Started{Backend: known(e), Variant: e.Variant, Log: l.log})
	switch {
	case e.Handle.listens:
		s.awaitListener(starting)
	case l.pipe != "":
		e.Pipe = l.pipe
		s.askV1(starting, l, starting.endpoint)
	default:
		s.watchBackend(e)
	}
	s.watchLog(l.log)
	s.jobs.wg.Go(func() { s.awaitExit(e, l) })
}

// awaitExit is the job that sees the end of a process that was started here. It ends with
// the broker's work, and the process lives on.
func (s *server) awaitExit(e *entry, l launched) {
	exit, err := l.Wait(s.jobs.work)
	if err != nil {
		s.leave(e, l)
		return
	}
	last := logfile.Last(l.log, l.from)
	s.jobs.post(func() { s.ended(e, exit, l.log, last) })
}

// ended goes on when a process that was started here has ended.
func (s *server) ended(e *entry, exit launch.Exit, log, last string) {
	e.Handle.exited = true
	if e.Handle.passed { // the successor sees it, too, and says so
		return
	}
	e.Handle.vacate()
	s.unwatchLog(log)
	if starting := s.starts.pending[e.Key]; starting != nil && starting.entry == e {
		s.startFailed(starting, explain(starting, exit, log, last))
	} else {
		s.emit(event.Exited{Backend: known(e), Exit: exit.Known(), Clean: exit == launch.Exit{}})
		s.passedEnded(e, exit, time.Now())
		s.endedReady(e, exit)
	}
	s.hearOut(e)
	s.backendLeft(e, nil)
	s.instanceEnded(e)
	if pipe := e.Pipe; pipe != "" {
		s.jobs.wg.Go(func() { endpoint.RemoveDead(pipe) })
	}
	s.lookIdle()
}

// endedReady judges the end of an instance that was ready, and was not let go.
func (s *server) endedReady(e *entry, exit launch.Exit) {
	if e.Handle.channel != nil && !e.Handle.letGo {
		s.starts.unproven(e.Key, fmt.Sprintf("the daemon of %s %s %v before it took a connection", e.Service, e.Version, exit))
	}
}

// explain says in one line what has become of an instance that was to be ready.
func explain(starting *starting, exit launch.Exit, log, last string) string {
	e := starting.entry
	text := fmt.Sprintf("the daemon of %s %s %v before it was ready", e.Service, e.Version, exit)
	switch {
	case starting.stopped:
		text = stoppedEarly(e)
	case starting.problem != "":
		text = fmt.Sprintf("the daemon of %s %s did not prove who it is, and was ended: %s", e.Service, e.Version, starting.problem)
	case starting.late:
		text = fmt.Sprintf("the daemon of %s %s was not ready in %v, and was ended", e.Service, e.Version, starting.deadline.Sub(e.Since).Round(time.Millisecond))
	}
	if last != "" {
		text += ": " + logfile.OneLine(last)
	}
	return text + "; its log is " + log
}

func stoppedEarly(e *entry) string {
	return fmt.Sprintf("the daemon of %s %s was stopped before it was ready", e.Service, e.Version)
}

// startFailed refuses all who wait for it, with the same words. One that was stopped is no
// failed try, and nobody who comes behind it is told of it.
func (s *server) startFailed(starting *starting, why string) {
	if starting.stopped {
		s.starts.forget(starting.entry.Key)
	} else {
		s.starts.failed(starting.entry.Key, why, time.Now())
	}
	s.notStarted(starting, why, hello.StartFailed(why, 0))
}

func (s *server) notStarted(starting *starting, why string, refusal *hello.Refusal) {
	key := starting.entry.Key
	delete(s.starts.pending, key)
	starting.settle()
	defer s.startsChanged()
	s.refuseQueued(starting.entry.Handle.socket, refusal)
	s.emit(event.StartFailed{Backend: known(starting.entry), Variant: key.Variant, Problem: why})
	if starting.succeeded {
		s.ready(key)
	} else {
		waiting := s.waiting.connections[key]
		delete(s.waiting.connections, key)
		for _, c := range waiting {
			c.refuseAndClose(c.waiter.target.request, refusal)
		}
	}
	s.takeBackAll(key.Service) // what came for it while it was to end
	if starting.over != nil {
		starting.over(why)
	}
}

// tickStarts has instances ended that were not ready in time, and returns when the next
// one will be late.
func (s *server) tickStarts(now time.Time) (next time.Time) {
	for _, starting := range s.starts.pending {
		switch {
		case now.Before(starting.deadline):
			next = loop.Earlier(next, starting.deadline)
		case starting.late:
		case starting.process == nil: // the system has not started it yet, or waits for its address
			if starting.stopped {
				starting.settle()
			}
			next = loop.Earlier(next, now.Add(endGrace))
		default:
			s.endStarting(starting)
		}
	}
	return next
}

// notProven ends an instance that is not what it should be, by its own word.
func (s *server) notProven(starting *starting, err error) {
	if s.starts.pending[starting.entry.Key] != starting || starting.late {
		return
	}
	starting.problem = err.Error()
	s.endStarting(starting)
}

// stopStarting has an instance end that is not ready yet, through no fault of its own.
func (s *server) stopStarting(starting *starting) {
	if !starting.late {
		starting.stopped, starting.deadline = true, time.Now()
		s.loop.WakeAt(starting.deadline)
	}
}

// endStarting ends an instance that is not to become ready any more.
func (s *server) endStarting(starting *starting) {
	starting.late = true
	process, work := starting.process, s.jobs.work
	s.jobs.wg.Go(func() { process.End(work, endGrace) })
}

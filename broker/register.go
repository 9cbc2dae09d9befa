package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/names"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/transport"
	"github.com/seed-7265657e/usher/internal/wire"
)

// serveRegistration takes in a backend that the broker did not start: verify it,
// make a channel, send the far end beside the answer (docs/protocol.md, section
// "Registration"). From then on the channel is the registration.
//
// Verifying may block and is a job; what follows belongs to the loop, which alone
// touches channels and their backends.
func (c *connection) serveRegistration(f *wire.Frame) {
	s := c.server
	req, err := frame.ParseRegister(f)
	if err != nil {
		s.emit(event.RegistrationMalformed{PID: c.cred.PID, Problem: err.Error()})
		c.close()
		return
	}
	if err := s.mayRegister(req); err != nil {
		c.refuseRegistration(f, req, err)
		c.close()
		return
	}
	c.enter(phaseResolving, c.deadline)
	files, deadline, serving := s.files, c.deadline, s.jobs.serving
	who := registrant{req: req, conn: c.conn, pid: c.cred.PID, own: s.registeredBy(c.cred.PID)}
	begun := offload(c, true, func(ctx context.Context) verification {
		ctx, cancel := untilDrain(ctx, deadline, serving)
		defer cancel()
		return files.verify(ctx, who)
	}, func(v verification) { c.verified(f, req, v) }, verification.drop) // closed without waiting for the file system
	if !begun {
		c.close()
	}
}

// drop is for who is not there any more.
func (v verification) drop() {
	if v.entry != nil {
		v.entry.Handle.process.Close()
	}
}

// verified goes on with the result. While an instance of that key is being launched nobody
// knows yet whether this one is it, so it waits for that: registered as another one, it would
// leave the start without an end.
func (c *connection) verified(f *wire.Frame, req *wire.Register, v verification) {
	s := c.server
	if v.err != nil {
		s.pressure.demote(v.shortage)
		c.refuseRegistration(f, req, v.err)
		c.close()
		return
	}
	st := s.starts.pending[v.entry.Key]
	if st == nil || st.process != nil || st.entry.Handle.channel == nil {
		c.register(f, req, v.entry)
		c.close()
		return
	}
	known := st.known
	begun := offload(c, false, func(ctx context.Context) verification {
		select {
		case <-known:
		case <-ctx.Done():
		}
		return v
	}, func(v verification) { c.verified(f, req, v) }, verification.drop)
	if !begun {
		v.drop()
		c.close()
	}
}

func (c *connection) refuseRegistration(request *wire.Frame, req *wire.Register, why error) {
	c.answer(frame.Registered(request, &wire.Registered{Reason: why.Error(), BrokerPid: uint32(os.Getpid())}))
	c.server.emit(event.RegistrationRefused{
		Backend: event.Backend{Service: req.ServiceName, Version: req.ServiceVersion, PID: c.cred.PID}, Problem: why.Error(),
	})
}

// register takes in a backend that has been verified. It owns e's process until then.
func (c *connection) register(request *wire.Frame, req *wire.Register, e *entry) {
	s := c.server
	older, err := s.place(e)
	starting := s.startOf(e)
	switch {
	case s.successor != nil:
		err = errUpgraded // which it finds when it asks again
	case starting != nil && (starting.late || starting.stopped):
		err = errEnding // else clients are sent to it
	}
	if err != nil {
		e.Handle.process.Close()
		c.refuseRegistration(request, req, err)
		return
	}
	if starting != nil {
		c.registerStarted(request, req, starting, e)
		return
	}
	if err := c.takeIn(request, e, req); err != nil {
		e.Handle.process.Close()
		s.emit(event.RegistrationFailed{Backend: known(e), Problem: err.Error()})
		return
	}
	if older != nil {
		older.Handle.channel.Close()
	}
	s.emit(event.Registered{Backend: known(e)})
	s.ready(e.Key)
	s.orphanCame()
}

// errEnding is told to an instance whose start has failed, which is being ended.
var errEnding = errors.New("it was not ready in time, or was stopped, and is being ended")

// startOf is the start whose process has registered, although it was given a channel: its
// SDK may not know that one can be. nil where e is of no start. Two processes that live have
// not one pid, so both being alive they are one.
func (s *server) startOf(e *entry) *starting {
	st := s.starts.pending[e.Key]
	if st == nil || st.process == nil || st.entry.Handle.channel == nil || st.entry.PID != e.PID {
		return nil
	}
	if !st.entry.Handle.process.Alive() || !e.Handle.process.Alive() {
		return nil
	}
	return st
}

// registerStarted ends a start whose process has registered, as e: it is ready, and the
// channel that it asks for takes the place of the one that it was given. It closes e's
// process.
func (c *connection) registerStarted(request *wire.Frame, req *wire.Register, starting *starting, e *entry) {
	s, ours := c.server, starting.entry
	e.Handle.process.Close()
	h := ours.Handle
	given, notes, retired := h.channel, h.takesNotes, h.retired
	h.retired = false // it may have closed the one that it was given
	if err := c.takeIn(request, ours, req); err != nil {
		h.channel, h.takesNotes, h.retired = given, notes, retired
		s.emit(event.RegistrationFailed{Backend: known(e), Problem: err.Error()})
		return
	}
	s.loop.Remove(given.Watched())
	given.Retire() // nothing was offered on it
	ours.Pipe = e.Pipe
	s.emit(event.Registered{Backend: known(ours)})
	s.startSucceeded(starting)
}

func (s *server) mayRegister(req *wire.Register) error {
	if s.draining {
		return errors.New("broker is shutting down")
	}
	if err := names.ServiceName(req.ServiceName); err != nil {
		return err
	}
	if len(req.OwnBuild) > 0 && !s.opts.OwnBuilds {
		return errors.New(hello.NoOwnBuilds().Reason)
	}
	return names.Version(req.ServiceVersion)
}

// registeredBy are the backends with a channel that one process has registered.
func (s *server) registeredBy(pid int) (own []*entry) {
	for _, e := range s.backends.All() {
		if e.PID == pid && e.Handle.channel != nil {
			own = append(own, e)
		}
	}
	return own
}

// place looks for the backend's older registration, which a new one replaces, and
// whether there is room for one more.
func (s *server) place(e *entry) (older *entry, err error) {
	own, renewed := 0, 0
	for _, o := range s.registeredBy(e.PID) {
		if slices.Contains(e.Handle.renews, o) {
			renewed++
			continue
		}
		own++
		if o.Key == e.Key && o.Pipe == e.Pipe {
			older = o
		}
	}
	if older != nil {
		return older, nil
	}
	if n := s.backends.Len() - renewed; n >= s.opts.MaxBackends {
		return nil, fmt.Errorf("%d backends are registered already", n)
	}
	if most := s.opts.maxBackendsPerProcess(); own >= most {
		return nil, fmt.Errorf("process %d has registered %d backends already", e.PID, own)
	}
	return nil, nil
}

// takeIn makes the channel, with a page of claims if the backend wants one, answers
// with its far end and enters the backend.
//
// It runs on the loop, and waits for nothing. The caller closes e's process after an
// error.
func (c *connection) takeIn(request *wire.Frame, e *entry, req *wire.Register) error {
	s := c.server
	// The process may have hung up, or have died, while it was verified; draining may
	// have closed every channel it knew.
	if err := s.jobs.work.Err(); err != nil {
		return err
	}
	ch, far, err := transport.NewChannel(s.handoffs)
	if err != nil {
		return err
	}
	defer far.Close()
	e.Handle.channel = ch
	e.Handle.takesNotes = req.Capabilities&frame.CapUnknownMessages != 0
	given := []sock.Lender{far}
	if req.ClaimPage {
		page, err := ch.SharePage()
		if err == nil {
			defer page.Close()
			given = append(given, page)
		} else if !errors.Is(err, errors.ErrUnsupported) { // which status says
			s.emit(event.PageMissing{PID: e.PID, Problem: err.Error()})
		}
	}
	e.Handle.left = make(chan left, 1)
	// In the registry before the answer leaves: a backend that knows itself registered
	// is. Nothing is offered to it before this function has returned, on the loop.
	s.backends.Add(e)
	err = writeNow(c.conn, frame.Registered(request, &wire.Registered{
		Accepted: true, BrokerPid: uint32(os.Getpid()), Channel: sock.ChannelKind, ClaimPage: len(given) > 1,
		Capabilities: frame.CapUnknownMessages,
	}), given...)
	if err != nil {
		s.backends.Remove(e)
		ch.Retire()
		return err
	}
	if !e.Handle.child { // else awaitExit sees its end
		s.jobs.wg.Go(func() { s.watchProcess(e) })
	}
	s.watchBackend(e)
	return nil
}

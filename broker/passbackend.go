package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/names"
	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/registry"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/transport"
	"github.com/seed-7265657e/usher/internal/wire"
)

// This file is how the channels of backends pass to a successor, and are taken in there. A
// channel has one broker at each moment: it passes when nothing is under way on it, and who
// gives it away has taken it out of its loop, and closes it without another word on it. What
// the backend says meanwhile is read by the one that has it then.
//
//	idle, or settled ──BACKEND──▶ the successor's
//	   └──can't be passed, or is not taken──▶ closed: the backend registers with the successor
//
// Not passed are: a channel whose backend left the last offer unanswered, which proves that
// it lives when it registers; one that drains, for it gets no offer any more; one whose
// process is not held by a pidfd; and one whose successor is older than this.

// passTime is how long a successor has to take what is passed to it.
const passTime = 2 * time.Second

// passing is a backend on its way to the successor. It owns its descriptors, but for the
// channel's.
type passing struct {
	entry   *entry
	message *wire.Handover
	with    []sock.Lender // channel, process, page
	own     []*sock.FD
}

// passBackends gives those to the successor on whose channels nothing is under way. It is a
// job: the successor takes them one by one. A channel that could not be passed ends, and its
// backend registers there.
func (s *server) passBackends(all ...*entry) {
	var on []*passing
	for _, e := range all {
		h := e.Handle
		if s.successor == nil || h.channel == nil || h.inFlight > 0 || h.retired || h.passed {
			continue
		}
		p, err := s.pass(e)
		if err != nil {
			s.backendLeft(e, nil)
			continue
		}
		h.passed = true
		s.giveLog(h.log)
		s.backends.Remove(e)
		s.loop.Remove(h.channel.Watched())
		on = append(on, p)
	}
	if len(on) == 0 {
		return
	}
	ch, until := s.successor.channel, time.Now().Add(passTime)
	s.jobs.wg.Go(func() {
		for _, p := range on {
			_ = sendPatiently(context.Background(), until, ch, p.message, p.with...) // else the channel ends
			for _, fd := range p.own {
				fd.Close()
			}
			s.jobs.post(func() { s.backendLeft(p.entry, nil) })
		}
	})
}

// errUnpassable is of a backend that registers with the successor instead.
var errUnpassable = errors.New("its channel can't be passed on")

// pass is what the successor needs to go on with a backend.
func (s *server) pass(e *entry) (p *passing, err error) {
	h := e.Handle
	if s.successor.can&frame.CapBackends == 0 || h.letGo || h.exited || !h.sound() {
		return nil, errUnpassable
	}
	process, err := h.process.Share()
	if err != nil {
		return nil, err
	}
	ch, err := h.channel.Pass()
	if err != nil {
		process.Close()
		return nil, err
	}
	p = &passing{entry: e, with: []sock.Lender{ch.Conn, process}, own: []*sock.FD{process}}
	b := &wire.PassedBackend{
		Instance: e.Instance, Service: e.Service, Version: e.Version, Variant: e.Variant,
		BackendPipe: e.Pipe, ExePath: e.ExePath, ExeHash: e.ExeHash[:], Log: h.log,
		SinceMs: uint64(e.Since.UnixMilli()), IdleSinceMs: uint64(later(h.idleSince, e.LastHello).UnixMilli()), Active: h.active, Busy: h.busy,
		Generation: ch.Generation, HandoffId: ch.Numbered,
	}
	if h.takesNotes {
		b.Capabilities = frame.CapUnknownMessages
	}
	if h.own != nil {
		b.OwnBuild, b.OwnFile = h.own.message, h.own.file[:]
	}
	if ch.Page != nil {
		b.ClaimPage = true
		p.with, p.own = append(p.with, ch.Page), append(p.own, ch.Page)
	}
	p.message = &wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_BACKEND, Backend: wire.Marshal(b)}
	return p, nil
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// taken is a backend that a predecessor has passed. It owns what it holds.
type taken struct {
	entry  *entry
	conn   *sock.FD
	passed transport.Passed
}

// receiveBackend makes of a message what it says. After an error the descriptors are left in
// fds, and t says only what it is about.
func receiveBackend(h *wire.Handover, fds *sock.Descriptors) (t *taken, err error) {
	b := new(wire.PassedBackend)
	err = frame.Unmarshal(h.Backend, b)
	e := &entry{
		Key:     registry.Key{Instance: b.Instance, Service: b.Service, Version: b.Version, Variant: b.Variant},
		ExePath: b.ExePath, Pipe: b.BackendPipe, Since: time.UnixMilli(int64(b.SinceMs)), Handle: newBackend(nil, nil),
	}
	t = &taken{entry: e, passed: transport.Passed{Generation: b.Generation, Numbered: b.HandoffId}}
	if err != nil {
		return t, err
	}
	want := 2
	if b.ClaimPage {
		want++
	}
	if fds.Len() != want || len(b.ExeHash) != len(e.ExeHash) {
		return t, errors.New("it is incomplete")
	}
	copy(e.ExeHash[:], b.ExeHash)
	if len(b.OwnBuild) > 0 {
		own := &ownInstance{message: b.OwnBuild, build: new(wire.OwnBuild)}
		if err := frame.Unmarshal(b.OwnBuild, own.build); err != nil {
			return t, err
		}
		copy(own.file[:], b.OwnFile)
		e.Handle.own = own
	}
	if err := errors.Join(names.ServiceName(b.Service), names.Version(b.Version)); err != nil {
		return t, err
	}
	process, err := peer.Resume(fds.Take(1))
	if err != nil {
		return t, err
	}
	e.PID, t.passed.PID, e.Handle.process = process.PID(), process.PID(), process
	e.Handle.takesNotes = b.Capabilities&frame.CapUnknownMessages != 0
	e.Handle.log, e.Handle.active, e.Handle.busy, e.Handle.idleSince = b.Log, b.Active, b.Busy, time.UnixMilli(int64(b.IdleSinceMs))
	t.conn = fds.Take(0)
	if b.ClaimPage {
		t.passed.Page = fds.Take(2)
	}
	return t, nil
}

// close gives up what was not taken in: the backend finds the end of its channel as soon as
// the predecessor has closed it, too.
func (t *taken) close() {
	t.conn.Close()
	if t.passed.Page != nil {
		t.passed.Page.Close()
	}
	t.entry.Handle.process.Close()
}

// takeBackend goes on with a backend of the predecessor.
func (s *server) takeBackend(t *taken) {
	e := t.entry
	if err := s.mayTake(t); err != nil {
		t.close()
		s.notTaken(e, err)
		return
	}
	ch, err := transport.Resume(t.conn, t.passed, s.handoffs)
	if err != nil {
		e.Handle.process.Close()
		s.notTaken(e, err)
		return
	}
	e.Handle.channel, e.Handle.left = ch, make(chan left, 1)
	s.backends.Add(e)
	if e.Handle.log != "" {
		s.watchLog(e.Handle.log)
	}
	s.emit(event.BackendTaken{Backend: known(e)})
	s.jobs.wg.Go(func() { s.watchProcess(e) })
	s.watchBackend(e)
	s.ready(e.Key)
	s.orphanCame()
	s.passBackends(e) // where there is a successor by now
}

// mayTake says why a backend is to register here instead.
func (s *server) mayTake(t *taken) error {
	switch {
	case s.draining && s.successor == nil:
		return errors.New("broker is shutting down")
	case !s.begun:
		return errors.New("it came before its time")
	case t.entry.Handle.own != nil && !s.opts.OwnBuilds:
		return errors.New("it is for a client's own build")
	}
	older, err := s.place(t.entry)
	if older != nil {
		err = errors.New("it has registered already")
	}
	return err
}

func (s *server) notTaken(e *entry, why error) {
	s.emit(event.RegistrationFailed{Backend: known(e), Problem: fmt.Sprintf("its channel is not taken over: %v", why)})
}

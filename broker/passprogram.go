package broker

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/launch"
	"github.com/seed-7265657e/usher/internal/names"
	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/registry"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/stamp"
	"github.com/seed-7265657e/usher/internal/transport"
	"github.com/seed-7265657e/usher/internal/wire"
)

// This file is how the programs without a channel pass to a successor: those with a listener of
// their own, v1 backends that a broker has started, and processes that have a connection to
// themselves. That one is told of them before it may begin, for it must start no second one;
// they are this broker's until it does.
//
//	this broker's ──PROGRAM──▶ offered ──TAKEN──▶ the successor's
//	      ▲                       └──no TAKEN──┐
//	      └────────────────────────────────────┘
//
// What is joined to a connection through this broker stays joined, and the broker with it. A
// program whose process is not held by a pidfd, and any where the successor is older than this,
// ends with this broker, or lives on uncounted if it has its connection to itself.

// offerPrograms gives the successor what it needs to go on with programs. The error is EAGAIN
// when it has to take in some before the others can be sent. With any other this broker goes on:
// what is missing passes, and without it a program would end here that could live on.
func (s *server) offerPrograms(next *successor) error {
	if next.can&frame.CapPrograms == 0 {
		return nil
	}
	for e := range s.passablePrograms {
		if e.Handle.offered {
			continue
		}
		err := s.offerProgram(next, e)
		if errors.Is(err, errno.EAGAIN) || errors.Is(err, errno.ETOOMANYREFS) || noDescriptor(err) {
			return err
		}
	}
	return nil
}

// passablePrograms are those that a successor can go on with.
func (s *server) passablePrograms(yield func(*entry) bool) {
	for _, e := range s.backends.All() {
		h := e.Handle
		if h.program != nil && !h.exited && (h.socket == nil || h.socket.handedOn) && !yield(e) {
			return
		}
	}
	for _, all := range []map[*entry]bool{s.processes.running, s.processes.behind} {
		for e := range all {
			if !yield(e) {
				return
			}
		}
	}
}

func (s *server) offerProgram(next *successor, e *entry) error {
	h := e.Handle
	var with []sock.Lender
	if !h.exited {
		process, err := h.process.Share()
		if err != nil {
			return err
		}
		defer process.Close()
		with = append(with, process)
	}
	b := &wire.PassedBackend{
		Instance: e.Instance, Service: e.Service, Version: e.Version,
		BackendPipe: e.Pipe, ExePath: e.ExePath, ExeHash: e.ExeHash[:], Log: h.log,
		SinceMs: uint64(e.Since.UnixMilli()), IdleSinceMs: uint64(later(h.idleSince, e.LastHello).UnixMilli()),
		Address: h.address, Alone: h.alone, Ending: h.letGo, Behind: h.exited,
	}
	if h.socket != nil {
		b.Listen = h.socket.binding.Path
	}
	if h.v1 != nil {
		b.HandoffEndpoint = h.v1.Endpoint
	}
	if h.joined {
		over, err := h.shareJoined()
		if err != nil {
			return err
		}
		defer over.Close()
		b.Joined, with = true, append(with, over)
	}
	err := sendHandover(next.channel, &wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_PROGRAM, Backend: wire.Marshal(b)}, with...)
	h.offered = err == nil
	return err
}

// keepPrograms is for a successor that has ended, and never began.
func (s *server) keepPrograms() {
	for _, e := range s.backends.All() {
		e.Handle.offered = false
	}
	for e := range s.processes.running {
		e.Handle.offered = false
	}
	for e := range s.processes.behind {
		e.Handle.offered = false
	}
}

// leavePrograms leaves to the successor those of which it knows.
func (s *server) leavePrograms() {
	for e := range s.passablePrograms {
		if e.Handle.offered {
			e.Handle.passed = true
			s.giveLog(e.Handle.log)
			s.backends.Remove(e) // unless it has its connection to itself
		}
	}
}

// A process that is joined to its connection by pipes may leave something behind which has
// them: its room is another's when that has closed them, too. The broker that has joined them
// sees that, and holds the one end of a pipe until then; who counts the process has the other.

// shareJoined is that other end, for a successor.
func (b *backend) shareJoined() (*sock.FD, error) {
	if b.joinedOver == nil {
		over, hold, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		b.joinedOver, b.joinedHold = over, hold
	}
	return sock.Duplicate(b.joinedOver)
}

// unjoined says that nobody has the pipes any more.
func (b *backend) unjoined() {
	if b.joinedOver != nil {
		_ = b.joinedOver.Close()
	}
	if b.joinedHold != nil {
		_ = b.joinedHold.Close()
	}
}

// programPassed takes in a program of the predecessor, for begin. A broker that could not go on
// with it does not begin, for its predecessor still can.
func (s *server) programPassed(h *wire.Handover, fds *sock.Descriptors) {
	e, err := receiveProgram(h, fds)
	if errors.Is(err, os.ErrProcessDone) {
		return
	}
	if err != nil {
		s.jobs.post(func() { s.mayNotBegin(err) })
		return
	}
	if !s.jobs.post(func() {
		if s.begun { // it comes late: nobody sends such
			e.Handle.close()
			return
		}
		s.programs = append(s.programs, e)
	}) {
		e.Handle.close()
	}
}

// receiveProgram makes of a message what it says. After an error the descriptors are left in
// fds, or closed.
func receiveProgram(m *wire.Handover, fds *sock.Descriptors) (*entry, error) {
	b := new(wire.PassedBackend)
	if err := frame.Unmarshal(m.Backend, b); err != nil {
		return nil, err
	}
	e := &entry{
		Key:     registry.Key{Instance: b.Instance, Service: b.Service, Version: b.Version},
		ExePath: b.ExePath, Pipe: b.BackendPipe, Since: time.UnixMilli(int64(b.SinceMs)), Handle: newBackend(nil, nil),
	}
	want := 1
	if b.Joined && !b.Behind {
		want++
	}
	if fds.Len() != want || len(b.ExeHash) != len(e.ExeHash) || b.Behind && !b.Joined || b.Joined && !b.Alone {
		return nil, errors.New("a program came incompletely")
	}
	copy(e.ExeHash[:], b.ExeHash)
	if err := errors.Join(names.ServiceName(b.Service), names.Version(b.Version)); err != nil {
		return nil, err
	}
	h := e.Handle
	h.log, h.idleSince, h.alone, h.letGo = b.Log, time.UnixMilli(int64(b.IdleSinceMs)), b.Alone, b.Ending
	h.address, h.listen, h.listens = b.Address, b.Listen, b.Address != "" || b.Listen != ""
	h.joined, h.exited = b.Joined, b.Behind
	if !b.Behind {
		process, err := peer.Resume(fds.Take(0))
		if h.exited = errors.Is(err, os.ErrProcessDone) && b.Joined; err != nil && !h.exited {
			return nil, err
		}
		if err == nil {
			e.PID, h.process, h.program = process.PID(), process, launch.Resume(process)
		}
	}
	if b.Joined {
		over, err := fds.Take(want - 1).File("joined")
		if err != nil {
			h.close()
			return nil, err
		}
		h.joinedOver = over
	}
	if b.HandoffEndpoint != "" {
		h.v1 = &transport.V1{Endpoint: b.HandoffEndpoint, PID: e.PID}
	}
	return e, nil
}

// close gives up a program that was not taken in.
func (b *backend) close() {
	if b.program != nil {
		b.program.Release()
	}
	b.unjoined()
}

// takePrograms goes on with the programs of the predecessor, before anybody is accepted.
func (s *server) takePrograms() {
	for _, e := range s.programs {
		if e.Handle.alone {
			s.takeProcess(e)
		} else {
			s.takeProgram(e)
		}
	}
	s.programs = nil
}

func (s *server) takeProgram(e *entry) {
	h := e.Handle
	if h.address != "" {
		h.over = make(chan struct{})
	}
	if h.listen != "" {
		if h.socket = s.givenSocket(h.listen); h.socket == nil { // nobody comes to it any more
			h.letGo, s.leaving[e] = true, true
			s.endProgram(h.program)
		}
	}
	if !h.letGo {
		s.backends.Add(e)
	}
	s.emit(event.BackendTaken{Backend: known(e)})
	l := launched{Process: h.program, log: h.log}
	if h.log != "" {
		s.watchLog(h.log)
	}
	s.jobs.wg.Go(func() { s.awaitExit(e, l) })
	if h.address != "" {
		s.jobs.readers.Go(func() { // its file system may never answer
			local := stamp.Local(e.Pipe)
			s.jobs.post(func() { h.local = local })
		})
	}
}

// givenSocket is the socket at path that the predecessor has given, or nil.
func (s *server) givenSocket(path string) *plainSocket {
	for _, p := range s.given {
		if p.passed && p.binding.Path == path {
			return p
		}
	}
	return nil
}

// takeProcess has a process that has its connection to itself count here, too, or what that
// has left behind.
func (s *server) takeProcess(e *entry) {
	h := e.Handle
	s.processes.add(e.Service, 1)
	l, lives := launched{Process: h.program, log: h.log}, !h.exited
	if lives {
		s.processes.running[e] = true
		s.watchLog(h.log)
	} else {
		s.processes.behind[e] = true
	}
	if !h.joined {
		s.jobs.wg.Go(func() { s.awaitProcess(e, l, func() { s.roomLeft(e) }) })
		return
	}
	over := h.joinedOver
	s.jobs.wg.Go(func() {
		if lives {
			s.awaitProcess(e, l, func() {})
		}
		stop := context.AfterFunc(s.jobs.work, func() { _ = over.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
		_, _ = over.Read(make([]byte, 1))
		s.jobs.post(func() { s.roomLeft(e) })
	})
}

// mayNotBegin keeps a broker that has not begun from that, for its predecessor serves.
func (s *server) mayNotBegin(why error) {
	if !s.begun {
		s.broken = why
	}
}

// closePrograms leaves to the predecessor what it has given to a broker that never began.
func (s *server) closePrograms() {
	for _, e := range s.programs {
		e.Handle.close()
	}
}

package broker

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wire"
)

// This file is the upgrade of a broker in place, on the side of the one that comes
// (successor.go has the other).

// HandoverVariable tells a process that it is started to take a broker's place: the number
// of the descriptor over which it gets what that one has.
const HandoverVariable = "USHER_HANDOVER"

// Predecessor is the broker whose place a process takes.
type Predecessor struct {
	channel  *sock.Channel
	keepName bool // the socket's name is a service manager's
}

// TakePredecessor returns the broker whose place this process was started to take; nil when
// there is none. It goes to Options.Predecessor. No child of this process has it.
func TakePredecessor() (*Predecessor, error) {
	number := os.Getenv(HandoverVariable)
	if number == "" {
		return nil, nil
	}
	_ = os.Unsetenv(HandoverVariable)
	fd, err := sock.Inherited(number)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", HandoverVariable, err)
	}
	return &Predecessor{channel: sock.NewChannel(fd)}, nil
}

// bind takes the listening socket over. Its name stays the predecessor's until begin: that
// one serves on if this one fails.
func (p *Predecessor) bind(path string) (b *endpoint.Binding, err error) {
	if err := p.channel.SetDeadline(time.Now().Add(takeOverTime)); err != nil {
		return nil, err
	}
	h, msg, err := receiveHandover(p.channel)
	if err != nil {
		return nil, fmt.Errorf("take over: %w", err)
	}
	defer msg.FDs.Close()
	if h.Kind != wire.HandoverKind_HANDOVER_KIND_LISTENER || h.Format != handoverFormat || msg.FDs.Len() != 1 {
		return nil, fmt.Errorf("take over: the other broker began with %s of format %d and %d descriptors", h.Kind, h.Format, msg.FDs.Len())
	}
	p.keepName = h.KeepName
	return endpoint.TakePlace(path, msg.FDs.Take(0))
}

// fail tells the predecessor that it has to stay.
func (p *Predecessor) fail(why error) {
	_ = sendHandover(p.channel, &wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_FAILED, Reason: why.Error()})
	_ = p.channel.Close()
}

// takeOver tells the predecessor that this broker could serve, and takes in what it gives:
// its clients' connections, and the word to go. It is a goroutine of its own, which ends
// with the predecessor, or with this broker's work; what has come by then is taken in.
func (s *server) takeOver() {
	ch := s.opts.Predecessor.channel
	defer func() { _ = ch.Close() }()
	defer s.jobs.post(func() { s.begin(0, nil) }) // one that has died meanwhile gives no word
	_ = ch.SetDeadline(time.Time{})
	_ = sendHandover(ch, &wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_READY, Capabilities: frame.CapTaken | frame.CapBackends | frame.CapSockets | frame.CapPrograms}) // else the end is read
	for {
		h, msg, err := receiveHandover(ch)
		var damaged *damagedError
		switch {
		case errors.As(err, &damaged): // its connection is lost; others come behind it
			s.jobs.post(func() { s.mayNotBegin(damaged) })
			continue
		case err != nil:
			return
		case h.Kind == wire.HandoverKind_HANDOVER_KIND_GO:
			backends := int(min(h.Backends, maxOrphans))
			var lock *sock.FD
			if msg.FDs.Len() == 1 {
				lock = msg.FDs.Take(0)
			}
			if !s.jobs.post(func() { s.take(backends, lock) }) && lock != nil {
				lock.Close()
			}
		case h.Kind == wire.HandoverKind_HANDOVER_KIND_BACKEND:
			s.backendPassed(h, &msg.FDs)
		case h.Kind == wire.HandoverKind_HANDOVER_KIND_PROGRAM:
			s.programPassed(h, &msg.FDs)
		case h.Kind == wire.HandoverKind_HANDOVER_KIND_SOCKET && msg.FDs.Len() == 1:
			s.socketPassed(h, &msg.FDs)
		case h.Kind == wire.HandoverKind_HANDOVER_KIND_CONNECTION && msg.FDs.Len() == 1:
			conn, received, path := msg.FDs.TakeConn(0), h.Received, h.Path
			if !s.jobs.post(func() { s.admitPassed(conn, received, path) }) {
				_ = conn.Close()
			}
		}
		msg.FDs.Close()
	}
}

// backendPassed takes in a backend of the predecessor.
func (s *server) backendPassed(h *wire.Handover, fds *sock.Descriptors) {
	t, err := receiveBackend(h, fds)
	if err != nil {
		s.jobs.post(func() { s.notTaken(t.entry, err) })
		return
	}
	if !s.jobs.post(func() { s.takeBackend(t) }) {
		t.close()
	}
}

// maxOrphans bounds what a predecessor says.
const maxOrphans = 1 << 20

// take begins in the place of a predecessor that has said GO, and says so first: from then on
// that one stays behind. One that can't hear it any more has given up, and ends this process,
// or has ended itself, which takeOver sees.
func (s *server) take(backends int, lock *sock.FD) {
	failpoint.Hit(failpoint.BrokerTold)
	over, err := s.begun || s.draining, s.broken
	if !over && err == nil {
		err = s.binding.ClaimPlace(lock)
		failpoint.Hit(failpoint.BrokerClaimed)
	}
	switch {
	case over, errors.Is(err, endpoint.ErrWithdrawn): // the predecessor knows
	case err != nil:
		_ = sendHandover(s.opts.Predecessor.channel, &wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_FAILED, Reason: err.Error()})
	case sendHandover(s.opts.Predecessor.channel, &wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_TAKEN}) == nil:
		failpoint.Hit(failpoint.BrokerTaken)
		s.begin(backends, lock)
		if backends == 0 {
			s.orphansOver()
		}
		return
	}
	if lock != nil {
		lock.Close()
	}
}

// begin accepts clients; so many backends of the predecessor come, or with 0 it is not known
// how many. lock is what the predecessor has passed, or nil.
func (s *server) begin(backends int, lock *sock.FD) {
	if s.begun || s.draining {
		return
	}
	s.begun, s.since = true, time.Now()
	if p := s.opts.Predecessor; p != nil {
		s.orphans.by, s.orphans.left = s.since.Add(succession), backends
		s.loop.WakeAt(s.orphans.by)
		s.binding.Own(lock, p.keepName)
	}
	s.acceptor.Start()
	s.takePrograms()
	s.openSockets()
	s.tellServing()
	s.lookIdle()
}

// admitPassed takes in a connection of the predecessor, of which received has been read, or
// which came on the socket of a service at path.
func (s *server) admitPassed(c *sock.Conn, received []byte, path string) {
	s.emit(event.TakenOver{})
	if path != "" {
		s.admitPlainPassed(c, path)
		return
	}
	s.admitRead(c, received)
}

// prefix is read before a connection.
type prefix struct {
	bytes []byte
	conn  *sock.Conn
}

// TryRead implements frame.TryReader.
func (p *prefix) TryRead(b []byte) (int, error) {
	if len(p.bytes) == 0 {
		return p.conn.TryRead(b)
	}
	n := copy(b, p.bytes)
	p.bytes = p.bytes[n:]
	return n, nil
}

var _ frame.TryReader = (*prefix)(nil)

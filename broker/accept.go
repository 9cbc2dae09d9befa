package broker

import (
	"errors"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wire"
)

// This file is step 1 of a connection's life, accept.

// acceptor is the listening socket in the loop.
type acceptor struct {
	listener *sock.Listener // the binding's, which stays open for as long as the loop runs
	watched  bool           // in the loop's set
	resume   time.Time      // when to accept again after a failure; zero when not failing
}

const (
	// acceptBackoff keeps a full descriptor table from costing CPU (spec 03 §13).
	acceptBackoff = 50 * time.Millisecond
	overloadRetry = 200 * time.Millisecond
)

// open lends itself the binding's socket.
func (a *acceptor) open(b *endpoint.Binding) (err error) {
	a.listener, err = sock.ListenerOf(b.Listener)
	return err
}

func (s *server) acceptAgain() {
	if s.acceptor.watched = s.loop.Add(s.acceptor.listener, s.accept) == nil; !s.acceptor.watched {
		s.pauseAccepting(time.Now())
	}
}

// pauseAccepting stops for acceptBackoff.
func (s *server) pauseAccepting(now time.Time) {
	s.stopAccepting()
	s.acceptor.resume = now.Add(acceptBackoff)
	s.loop.WakeAt(s.acceptor.resume)
}

func (s *server) stopAccepting() {
	s.loop.Remove(s.acceptor.listener)
	s.acceptor.watched = false
}

// tickAccept accepts again when that is due, and returns when it is.
func (s *server) tickAccept(now time.Time) (next time.Time) {
	a := &s.acceptor
	switch {
	case a.resume.IsZero() || a.watched:
		return time.Time{}
	case now.Before(a.resume):
		return a.resume
	}
	s.acceptAgain()
	return time.Time{}
}

// accept accepts one connection, because asking in vain costs as much as a quarter of a
// handoff. No fault of one peer, nor a full descriptor table, ends it.
func (s *server) accept() {
	c, err := s.acceptor.listener.Accept()
	switch {
	case err == nil:
		s.acceptor.resume = time.Time{}
		s.admit(c)
	case errors.Is(err, syscall.EAGAIN): // it has gone again
	default:
		full := s.pressure.failed(err)
		madeRoom := full && s.evict()
		s.emit(event.AcceptFailed{
			Problem: err.Error(), NoDescriptors: full, Every: acceptBackoff, Again: madeRoom || !s.acceptor.resume.IsZero(),
		})
		if !madeRoom {
			s.pauseAccepting(time.Now())
		}
	}
}

// admit checks who is there before the first byte is read (spec 03 §5), and reads
// what has arrived. It owns c.
func (s *server) admit(c *sock.Conn) {
	demoted := s.pressure.accepted()
	cred, err := sock.PeerOf(c)
	if err == nil {
		err = cred.CheckUser(s.uid)
	}
	if err != nil {
		s.emit(event.PeerDropped{Problem: err.Error()})
		_ = c.Close()
		return
	}
	if !s.admission.enter(cred.PID, s.evict) {
		s.refuseUnread(c, cred.PID)
		return
	}
	c.CloseWhenDropped()
	conn := newConnection(s, c, cred, demoted)
	s.conns.add(conn)
	conn.read()
}

// evict closes the oldest connection that has sent no Hello, so that those who only
// connect can't keep out those who speak. It reports whether there was one.
func (s *server) evict() bool {
	c := s.conns.silent()
	if c == nil {
		return false
	}
	c.refuseAndClose(nil, overloaded())
	return true
}

// refuseUnread answers a connection over the bounds without reading from it.
func (s *server) refuseUnread(c *sock.Conn, pid int) {
	refusal := overloaded()
	s.emit(event.Refused{Code: refusal.Code.String(), Reason: refusal.Reason, PID: pid, Unread: true})
	_ = writeNow(c, hello.ReplyFrame(nil, refusal.Reply()))
	_ = c.Close()
}

// overloaded is the refusal for want of room, which others are about to make.
func overloaded() *hello.Refusal {
	return &hello.Refusal{
		Code:       wire.ErrorCode_ERROR_RATE_LIMITED,
		Reason:     "too many connections without a verdict",
		RetryAfter: overloadRetry,
	}
}

// drain accepts what is still in the kernel's queue, to be refused, lets those who have
// sent no Hello have until then to send it, and refuses those who wait: no backend
// registers any more. It returns what is closed once every connection has its verdict.
func (s *server) drain(then time.Time) (empty <-chan struct{}) {
	s.stopAccepting()
	s.acceptor.resume = time.Time{}
	for {
		c, err := s.acceptor.listener.Accept()
		if err != nil { // a full table says so even of an empty queue
			break
		}
		s.admit(c)
	}
	for _, c := range s.conns.all() {
		switch {
		case c.phase == phaseReading && then.Before(c.deadline):
			c.deadline = then
			s.loop.WakeAt(then)
		case c.phase == phaseWaiting:
			c.stopWaiting(hello.ShuttingDown())
		}
	}
	return s.conns.whenEmpty()
}

package broker

import (
	"errors"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/loop"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wire"
)

// This file is step 1 of a connection's life, accept.

const overloadRetry = 200 * time.Millisecond

// listen makes the acceptor. The binding keeps its socket open for as long as the loop
// runs.
func (s *server) listen() error {
	from, err := s.binding.Accepting()
	if err == nil {
		s.acceptor = loop.NewAcceptor(s.loop, from, s.accept)
	}
	return err
}

// accept accepts one connection, because asking in vain costs as much as a quarter of a
// handoff. No fault of one peer, nor a full descriptor table, ends it.
func (s *server) accept() { s.acceptFrom(s.acceptor, s.admit) }

func (s *server) acceptFrom(acceptor *loop.Acceptor, admit func(*sock.Conn)) {
	c, err := acceptor.Accept()
	switch {
	case err == nil:
		acceptor.Accepted()
		admit(c)
	case errors.Is(err, errno.EAGAIN): // it has gone again
	case errors.Is(err, syscall.EINVAL) && s.jobs.serving.Err() != nil: // shut down, for the broker ends
		acceptor.Stop()
	default:
		full := s.pressure.failed(err)
		madeRoom := full && s.evict()
		s.emit(event.AcceptFailed{
			Problem: err.Error(), NoDescriptors: full, Every: loop.AcceptBackoff, Again: madeRoom || acceptor.Failing(),
		})
		if !madeRoom {
			acceptor.Pause()
		}
	}
}

// admit checks who is there before the first byte is read (spec 03 §5), and reads
// what has arrived. It owns c.
func (s *server) admit(c *sock.Conn) { s.admitRead(c, nil) }

// admitRead is admit for a connection of which something has been read by another broker.
func (s *server) admitRead(c *sock.Conn, received []byte) {
	if conn := s.checked(c, s.refuseUnread); conn != nil {
		conn.received = prefix{received, c}
		if s.successor != nil { // it is from this broker's predecessor, who has not ended yet
			conn.passOn(received)
			return
		}
		conn.read()
	}
}

// checked is the connection of c, whose peer has been checked, or nil: then c is closed, by
// overBounds where there are too many.
func (s *server) checked(c *sock.Conn, overBounds func(c *sock.Conn, pid int)) *connection {
	demoted := s.pressure.accepted()
	cred, err := sock.PeerOf(c)
	if err == nil {
		err = cred.CheckUser(s.uid)
	}
	if err != nil {
		s.emit(event.PeerDropped{Problem: err.Error()})
		_ = c.Close()
		return nil
	}
	if !s.admission.enter(cred.PID, s.evict) {
		overBounds(c, cred.PID)
		return nil
	}
	c.CloseWhenDropped()
	conn := newConnection(s, c, cred, demoted)
	s.conns.add(conn)
	return conn
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

// drain accepts what is still in the kernel's queue, to be refused unless another broker
// gets it, lets those who have sent no Hello have until then to send it, and refuses those
// who wait: no backend registers any more. It returns what is closed once every connection
// has its verdict.
func (s *server) drain(then time.Time) (empty <-chan struct{}) {
	s.tellDraining()
	s.acceptor.Stop()
	for s.begun && s.successor == nil && !s.keepsName() { // else another accepts them
		c, err := s.acceptor.Accept()
		if err != nil { // a full table says so even of an empty queue
			break
		}
		s.admit(c)
	}
	s.drainPlain()
	for _, c := range s.conns.all() {
		switch {
		case c.phase == phaseReading && then.Before(c.deadline):
			c.deadline = then
			s.loop.WakeAt(then)
		case c.phase == phaseWaiting:
			c.stopWaiting(hello.ShuttingDown())
		case c.phase == phaseReplying && c.job == nil:
			c.controlOverdue()
		}
	}
	return s.conns.whenEmpty()
}

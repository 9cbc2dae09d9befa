package client

import (
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// The methods of Conn, on its state.

// Read is Conn.Read.
func (s *stream) Read(p []byte) (int, error) {
	o, err := s.opened.Load(), error(nil)
	if o == nil {
		if o, err = s.await(&caller{op: "read", direction: reading}); err != nil {
			return 0, err
		}
	}
	n := 0
	if s.unreadSet.Load() && len(p) > 0 {
		n = s.takeUnread(p)
	}
	if n == 0 {
		if !s.outcome.answered.Load() {
			o.conn.AwaitRead(kernelWait)
		}
		n, err = o.conn.Read(p)
	}
	if n > 0 {
		s.outcome.answer()
	}
	if why := s.hostFailure(err); why != nil {
		err = opError("read", fmt.Errorf("the connection is lost: %w", why))
	}
	if err == io.EOF && s.endsItself() {
		return n, err
	}
	return n, s.outcome.of(err)
}

// endsItself reports whether the caller expects no more than an end.
func (s *stream) endsItself() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.halfClosed
}

// takeUnread takes nothing when the socket has to say why.
func (s *stream) takeUnread(p []byte) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == closed || passed(s.waits.read, time.Now()) {
		return 0
	}
	n := copy(p, s.unread)
	if s.unread = s.unread[n:]; len(s.unread) == 0 {
		s.unread = nil
		s.unreadSet.Store(false)
	}
	return n
}

// Write is Conn.Write.
func (s *stream) Write(p []byte) (int, error) {
	o := s.opened.Load()
	if o == nil {
		gone, err := s.firstWrite(p)
		if gone {
			return len(p), nil
		}
		if err != nil {
			return 0, err
		}
		o = s.opened.Load()
	}
	n, err := s.outcome.write(o.conn, p)
	return n, s.outcome.of(err)
}

// firstWrite sends Hello with p behind it when nothing has been sent yet. gone says
// that p is on its way; else, without an error, the stream is settled.
func (s *stream) firstWrite(p []byte) (gone bool, err error) {
	c := &caller{op: "write", direction: writing}
	if err := s.take(c); err != nil {
		return false, s.callerError(c, err)
	}
	defer s.leave()
	if len(p) == 0 || len(p) > MaxEarlyData || s.current() != unasked {
		return false, s.callerError(c, s.run(c, settled))
	}
	s.x = newExchange(s, append([]byte(nil), p...))
	err = s.run(c, asked)
	if err == nil || s.current() == asked { // a part of Hello may wait for room: the next call sends it
		return true, nil
	}
	return false, s.callerError(c, err)
}

// closeWrite ends the caller's direction: behind early data at once, else behind
// the verdict, as nothing may come between it and Hello alone.
func (s *stream) closeWrite() error {
	c := &caller{op: "close", direction: writing}
	if done, err := s.tryCloseWrite(c); done {
		return err
	}
	if _, err := s.await(c); err != nil {
		return err
	}
	_, err := s.tryCloseWrite(c)
	return err
}

func (s *stream) tryCloseWrite(c *caller) (done bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.state == closed:
		return true, opError(c.op, net.ErrClosed)
	case s.state == failed:
		return true, opError(c.op, s.why)
	case s.state == unasked, s.state == asked && !s.early:
		return false, nil
	}
	s.halfClosed = true
	if s.state == asked && !s.flushed {
		return true, nil // begin does it
	}
	return true, s.sock.CloseWrite()
}

func (s *stream) closeRead() error {
	o, err := s.await(&caller{op: "close", direction: reading})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.readClosed = true
	s.mu.Unlock()
	return o.conn.CloseRead()
}

func (s *stream) syscallConn() (syscall.RawConn, error) {
	o, err := s.await(&caller{op: "raw-control"})
	if err != nil {
		return nil, err
	}
	return o.conn.SyscallConn()
}

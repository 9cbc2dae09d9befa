//go:build !windows

package sock

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/frame"
)

// streamed is what a Channel over a byte stream keeps from one call to the next: there a
// message may arrive, and go, in parts.
//
// What arrives is read as the header and then the body, never a byte more, so that what
// comes beside the first byte of the next message is not taken for this one's.
// Descriptors beside any other byte break the framing.
type streamed struct {
	receiving sync.Mutex // held while something is read, and by close; never while it is waited for
	buf       []byte     // the message at hand
	got       int        // bytes of it
	size      int        // of all of it, once its header is there
	fds       Descriptors
	fault     error
	last      Descriptors // of the message before, which is its receiver's
	closed    bool

	sending sync.Mutex // held while something is sent; never while there is no room
	rest    []byte     // of a message that went in part: it goes ahead of the next
}

func newStreamed(*Conn) *streamed { return new(streamed) }

// next receives what there is of the message at hand: errno.EAGAIN when that is not all.
func (s *streamed) next(fd int, in *receiver) (Message, error) {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	if s.closed {
		return Message{}, os.ErrClosed
	}
	s.last.Close()
	if s.buf == nil {
		s.buf = make([]byte, MaxMessage)
	}
	for s.got < frame.HeaderLen || s.got < s.size {
		m, err := in.recv(fd, s.buf[s.got:max(s.size, frame.HeaderLen)])
		if err == nil {
			err = s.add(m)
		}
		if err == errno.EAGAIN {
			return Message{}, err
		}
		if err != nil {
			s.fds.Close()
			return Message{}, err
		}
	}
	msg := Message{Body: s.buf[frame.HeaderLen:s.size], FDs: s.fds, Fault: s.fault}
	s.got, s.size, s.last, s.fds, s.fault = 0, 0, s.fds, Descriptors{}, nil
	return msg, nil
}

// add takes what came of the message at hand.
func (s *streamed) add(m Received) error {
	switch {
	case m.N == 0 && s.got == 0 && m.FDs.Len() == 0:
		return io.EOF
	case m.N == 0:
		m.FDs.Close()
		return io.ErrUnexpectedEOF
	case s.got == 0:
		s.fds = m.FDs.Move() // the next read uses the same buffer
	case m.FDs.Len() > 0:
		m.FDs.Close()
		return fmt.Errorf("%w: descriptors inside a message", ErrProtocol)
	}
	if m.Fault != nil {
		s.fault = m.Fault
	}
	s.got += m.N
	if s.size > 0 || s.got < frame.HeaderLen {
		return nil
	}
	body, _, err := frame.Header(s.buf[:s.got], MaxMessage-frame.HeaderLen)
	if err != nil {
		return fmt.Errorf("%w: not a frame: %w", ErrProtocol, err)
	}
	s.size = frame.HeaderLen + body
	return nil
}

func (s *streamed) whole() bool {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	s.sending.Lock()
	defer s.sending.Unlock()
	return s.got == 0 && len(s.rest) == 0
}

// close closes what came with a message that will not be complete.
func (s *streamed) close() {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	s.closed = true
	s.fds.Close()
}

// send sends msg behind what is left of the one before, and reports whether something is
// left of it. errno.EAGAIN says that nothing of msg was sent.
func (s *streamed) send(fd int, msg []byte, with []Lender) (left bool, err error) {
	s.sending.Lock()
	defer s.sending.Unlock()
	if err := s.push(fd); err != nil {
		return false, err
	}
	n, err := send(fd, msg, with)
	if err != nil || n == len(msg) {
		return false, err
	}
	s.rest = slices.Clone(msg[n:]) // what is lent went with the first byte
	return true, nil
}

// push sends what is left of the last message: errno.EAGAIN while there is no room for
// all of it.
func (s *streamed) push(fd int) error {
	for len(s.rest) > 0 {
		n, err := send(fd, s.rest, nil)
		if err != nil {
			return err
		}
		s.rest = s.rest[n:]
	}
	return nil
}

// finish sends what is left, as soon as there is room for it. It ends with that, with the
// peer, and with c.
func (s *streamed) finish(c *Conn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Write(func(fd uintptr) bool {
		s.sending.Lock()
		defer s.sending.Unlock()
		return !errors.Is(s.push(int(fd)), errno.EAGAIN)
	})
}

package sock

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/windows"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/wire"
)

// ChannelKind is what Pair makes: a pipe of bytes.
const ChannelKind = wire.ChannelKind_CHANNEL_KIND_STREAM

// Pair makes a channel: the near end, and the far end to be sent. What is sent on the near
// one is for the process that the far one is sent to. Both are the caller's.
func Pair() (near *Channel, far *FD, err error) {
	var random [16]byte
	_, _ = rand.Read(random[:])
	path := namesPipe + "usher-channel-" + hex.EncodeToString(random[:])
	security, err := ownerOnly()
	if err != nil {
		return nil, nil, fmt.Errorf("make a channel: %w", err)
	}
	serving, err := createPipe(path, security, windows.FILE_FLAG_FIRST_PIPE_INSTANCE, 1)
	if err != nil {
		return nil, nil, fmt.Errorf("make a channel: %w", err)
	}
	fd, err := openPipe(path)
	if err != nil {
		closeFD(serving)
		return nil, nil, fmt.Errorf("make a channel: %w", err)
	}
	near, far = NewChannel(Own(serving)), Own(fd)
	far.near = near
	return near, far, nil
}

// streamed is what a Channel keeps from one call to the next: on a pipe of bytes a message
// may arrive in parts. What arrives is never read beyond the message at hand.
type streamed struct {
	conn   *Conn
	serves bool // this is the serving end, which sends handles and is sent none

	receiving sync.Mutex // held while something is read, and by close; never while it is waited for
	buf       []byte     // the message at hand
	got       int        // bytes of it
	passed    bool       // the handles ahead of it have been read, or there are none
	fds       Descriptors
	last      Descriptors // of the message before, which is its receiver's
	closed    bool

	sending sync.Mutex // held while something is sent, and by close
	to      *FD        // the process that has the far end; nil before, and at the far end
}

// newStreamed takes an end of which nothing can be learned for a serving one: it takes
// nothing by its number.
func newStreamed(c *Conn) *streamed {
	var flags uint32
	err := windows.GetNamedPipeInfo(windows.Handle(c.fd), &flags, nil, nil, nil)
	return &streamed{conn: c, serves: err != nil || flags&windows.PIPE_SERVER_END != 0}
}

// next receives what there is of the message at hand: syscall.EAGAIN when that is not all.
func (s *streamed) next(fd int, _ *receiver) (Message, error) {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	if s.closed {
		return Message{}, os.ErrClosed
	}
	s.last.Close()
	if s.buf == nil {
		s.buf = make([]byte, MaxMessage)
	}
	for {
		want, whole, err := s.want()
		if whole {
			msg := Message{Body: s.buf[frame.HeaderLen:s.got], FDs: s.fds}
			s.got, s.passed, s.last, s.fds = 0, false, s.fds, Descriptors{}
			return msg, nil
		}
		if err == nil {
			var n int
			n, err = s.conn.receive(fd, s.buf[s.got:want])
			s.got += n
		}
		if err == io.EOF && (s.got > 0 || s.passed) {
			err = io.ErrUnexpectedEOF
		}
		if err == syscall.EAGAIN {
			return Message{}, err
		}
		if err != nil {
			s.fds.Close()
			return Message{}, err
		}
	}
}

// want is how many bytes are to be read before it can be said what follows; whole says that
// the frame is there.
func (s *streamed) want() (n int, whole bool, err error) {
	if !s.passed {
		if s.got < headLen {
			return headLen, false, nil
		}
		if s.buf[0] == marker {
			if s.serves {
				return 0, false, fmt.Errorf("%w: handles from the end that has none to give", ErrProtocol)
			}
			many := int(s.buf[1])
			if many > usualFDs {
				return 0, false, fmt.Errorf("%w: %d handles", ErrProtocol, many)
			}
			if n := headLen + handleLen*many; s.got < n {
				return n, false, nil
			}
			for i := range many {
				fd := int(binary.LittleEndian.Uint64(s.buf[headLen+handleLen*i:]))
				serving.add(fd)
				s.fds.fds = append(s.fds.fds, fd)
			}
			s.got = 0
		}
		s.passed = true
	}
	if s.got < frame.HeaderLen {
		return frame.HeaderLen, false, nil
	}
	body, _, err := frame.Header(s.buf[:s.got], MaxMessage-frame.HeaderLen)
	if err != nil {
		return 0, false, fmt.Errorf("%w: not a frame: %w", ErrProtocol, err)
	}
	n = frame.HeaderLen + body
	return n, s.got == n, nil
}

// whole is false too for a pipe that is bound to this process' poller: nobody else can watch it.
func (s *streamed) whole() bool {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	s.conn.out.mu.Lock()
	defer s.conn.out.mu.Unlock()
	return s.got == 0 && !s.passed && s.conn.out.flight == nil && s.conn.parked.Load() == nil
}

// close closes what came with a message that will not be complete, and what is held of the
// other process.
func (s *streamed) close() {
	s.receiving.Lock()
	s.closed = true
	s.fds.Close()
	s.receiving.Unlock()
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.to != nil {
		s.to.Close()
	}
}

// send sends msg, whole, or nothing of it: syscall.EAGAIN while there is no room.
func (s *streamed) send(fd int, msg []byte, with []Lender) (left bool, err error) {
	s.sending.Lock()
	defer s.sending.Unlock()
	switch {
	case len(with) == 0:
		_, err = s.conn.sendParts(fd, [][]byte{msg})
	case s.to == nil || s.to.n < 0:
		err = fmt.Errorf("pass handles: %w at this end", errors.ErrUnsupported)
	default:
		err = s.conn.pass(fd, windows.Handle(s.to.n), msg, with)
	}
	return false, err
}

// finish has nothing to send: a message goes whole.
func (*streamed) finish(*Conn) {}

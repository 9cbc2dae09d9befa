// Package channel is the private connection between the broker and one backend
// process: it carries frames, and descriptors beside them, without ever mixing
// up which belong together.
//
// A channel is a SOCK_SEQPACKET pair, where one message is one datagram; where
// the system has none it is a stream pair, where a message's descriptors travel
// with its first byte and a reader takes exactly header, then body
// (docs/protocol.md, section "Channel").
//
// A leaf: of usher it imports fdpass and frame alone. A Conn owns
// its socket. Descriptors given to Send stay the caller's; descriptors that
// Recv returns are the caller's.
package channel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/brokerpb"
	"github.com/seed-7265657e/usher/internal/fdpass"
	"github.com/seed-7265657e/usher/internal/frame"
)

// MaxMessage bounds one message, header included, in bytes. An offer is a few
// hundred; one that a client inflates beyond this with trace fields is not
// handed off.
const MaxMessage = 16 << 10

// Kind is the socket type under a channel.
type Kind int

const (
	// Seqpacket keeps message boundaries in the kernel.
	Seqpacket Kind = iota
	// Stream is for systems without Unix SOCK_SEQPACKET.
	Stream
)

// ErrProtocol says that the peer broke the channel's framing. The channel can't
// be used any more.
var ErrProtocol = errors.New("peer broke the channel's framing")

// PartialSendError says that a stream channel took only a part of a message:
// its descriptors are with the peer, its bytes are not complete, and the
// channel can't be used any more.
type PartialSendError struct {
	Sent, Size int
}

func (e *PartialSendError) Error() string {
	return fmt.Sprintf("channel took %d of %d bytes", e.Sent, e.Size)
}

// Socket is a connected, non-blocking Unix socket: *os.File or *net.UnixConn.
type Socket interface {
	syscall.Conn
	SetReadDeadline(time.Time) error
	Close() error
}

// Conn is one end of a channel. Send may be called from many goroutines at
// once, Recv from one.
type Conn struct {
	sock   Socket
	raw    syscall.RawConn
	kind   Kind
	closed atomic.Bool // by Close, before the socket is
	torn   bool        // a message went out in part; guarded by the socket's write lock
	buf    []byte
}

// New makes a Conn of a connected, non-blocking Unix socket and owns fd from
// then on, also when it fails.
func New(fd int, kind Kind) (*Conn, error) {
	file := os.NewFile(uintptr(fd), "channel")
	if file == nil {
		return nil, fmt.Errorf("channel: bad descriptor %d", fd)
	}
	return Over(file, kind)
}

// Over makes a Conn of a socket and owns it from then on, also when it fails.
// Over a stream, bytes and descriptors behind the last message received stay in
// the kernel.
func Over(sock Socket, kind Kind) (*Conn, error) {
	raw, err := sock.SyscallConn()
	if err != nil {
		_ = sock.Close()
		return nil, fmt.Errorf("channel: %w", err)
	}
	return &Conn{sock: sock, raw: raw, kind: kind}, nil
}

// Kind returns the socket type under the channel.
func (c *Conn) Kind() Kind { return c.kind }

// Send sends one framed message with fds, which it borrows. It never blocks: a
// full channel is EAGAIN, and nothing was sent then. After a *PartialSendError
// the channel must be closed; a Send that comes before that is EPIPE. After
// Close it is os.ErrClosed. Any other error is the system's.
func (c *Conn) Send(msg []byte, fds ...int) error {
	if len(msg) > MaxMessage {
		return fmt.Errorf("message of %d bytes does not fit a channel: %w", len(msg), syscall.EMSGSIZE)
	}
	var n int
	var sendErr, err error
	send := func(sock uintptr) { n, sendErr = fdpass.Send(int(sock), msg, fds...) }
	if c.kind == Seqpacket {
		err = c.raw.Control(send) // one datagram is atomic: no lock needed
	} else {
		err = c.raw.Write(func(sock uintptr) bool {
			if c.torn { // the peer would read this message as the rest of that one
				sendErr = syscall.EPIPE
				return true
			}
			send(sock)
			c.torn = sendErr == nil && n < len(msg)
			return true
		})
	}
	switch {
	case err != nil:
		return c.socketError(err)
	case sendErr != nil:
		return sendErr
	case n < len(msg):
		return &PartialSendError{Sent: n, Size: len(msg)}
	}
	return nil
}

// Message is one received message.
type Message struct {
	// Body is the frame's body; it is valid until the next Recv.
	Body []byte
	// FDs belong to the caller, who closes them on every path.
	FDs fdpass.Descriptors
	// Fault says that the message arrived damaged (fdpass.ErrTruncated,
	// fdpass.ErrDescriptorsLost). It must be answered all the same.
	Fault error
}

// Frame decodes the message's body. The error is a *frame.DecodeError.
func (m Message) Frame() (*brokerpb.Frame, error) {
	f := new(brokerpb.Frame)
	return f, frame.Unmarshal(m.Body, f)
}

// Recv waits for the next message. It returns io.EOF when the peer is gone,
// os.ErrDeadlineExceeded and os.ErrClosed as a file does, and an error wrapping
// ErrProtocol when the bytes are no frame. With any error no descriptor stays
// open. Only a deadline leaves the channel usable, and on a stream only one that
// passes between two messages.
func (c *Conn) Recv() (Message, error) {
	if c.buf == nil {
		c.buf = make([]byte, MaxMessage)
	}
	if c.kind == Seqpacket {
		return c.recvDatagram()
	}
	return c.recvStream()
}

func (c *Conn) recvDatagram() (Message, error) {
	m, err := c.recvmsg(c.buf)
	if err != nil {
		return Message{}, err
	}
	if m.N == 0 && m.FDs.Len() == 0 && m.Fault == nil {
		return Message{}, io.EOF
	}
	msg := Message{FDs: m.FDs, Fault: m.Fault}
	data := c.buf[:m.N]
	if len(data) < frame.HeaderLen || data[0] != frame.Version {
		return Message{}, c.broken(&msg, "not a frame")
	}
	size := binary.LittleEndian.Uint32(data[1:])
	if uint64(size) != uint64(m.N-frame.HeaderLen) && m.Fault == nil {
		return Message{}, c.broken(&msg, "length does not fit the datagram")
	}
	msg.Body = data[frame.HeaderLen:]
	return msg, nil
}

func (c *Conn) recvStream() (Message, error) {
	var msg Message
	header := c.buf[:frame.HeaderLen]
	if err := c.fill(header, true, &msg); err != nil {
		return Message{}, err
	}
	if header[0] != frame.Version {
		return Message{}, c.broken(&msg, "not a frame")
	}
	size := binary.LittleEndian.Uint32(header[1:])
	if size > MaxMessage-frame.HeaderLen {
		return Message{}, c.broken(&msg, "message too large")
	}
	msg.Body = c.buf[frame.HeaderLen : frame.HeaderLen+int(size)]
	if err := c.fill(msg.Body, false, &msg); err != nil {
		return Message{}, err
	}
	return msg, nil
}

// fill reads exactly len(part) bytes. Descriptors are legal with the message's
// first byte only, which is part's when head is true. On an error it closes what
// the message has gathered.
func (c *Conn) fill(part []byte, head bool, msg *Message) error {
	for done := 0; done < len(part); {
		atFirstByte := head && done == 0
		m, err := c.recvmsg(part[done:])
		switch {
		case err != nil:
			msg.FDs.Close()
			return err
		case m.N == 0:
			m.FDs.Close()
			msg.FDs.Close()
			if atFirstByte {
				return io.EOF
			}
			return io.ErrUnexpectedEOF
		case m.FDs.Len() > 0 && !atFirstByte:
			m.FDs.Close()
			return c.broken(msg, "descriptors inside a message")
		}
		if atFirstByte {
			msg.FDs = m.FDs
		}
		if m.Fault != nil {
			msg.Fault = m.Fault
		}
		done += m.N
	}
	return nil
}

func (c *Conn) recvmsg(buf []byte) (m fdpass.Message, err error) {
	waitErr := c.raw.Read(func(sock uintptr) bool {
		m, err = fdpass.Recv(int(sock), buf)
		if errors.Is(err, syscall.ECONNRESET) {
			// The peer left with messages unread. The kernel says so once, ahead of
			// what the peer itself had sent; behind it comes end of file.
			m, err = fdpass.Recv(int(sock), buf)
		}
		return !errors.Is(err, syscall.EAGAIN)
	})
	if waitErr != nil {
		return fdpass.Message{}, c.socketError(waitErr)
	}
	return m, err
}

// socketError gives the runtime's error for a closed descriptor the name by
// which callers know it.
func (c *Conn) socketError(err error) error {
	if c.closed.Load() {
		return os.ErrClosed
	}
	return err
}

func (c *Conn) broken(msg *Message, what string) error {
	msg.FDs.Close()
	return fmt.Errorf("%w: %s", ErrProtocol, what)
}

// SetDeadline bounds a Recv under way and every later one.
func (c *Conn) SetDeadline(t time.Time) error { return c.sock.SetReadDeadline(t) }

// Close closes this end. A Recv under way returns os.ErrClosed. Messages
// already sent stay readable for the peer. It may be called again.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	return c.sock.Close()
}

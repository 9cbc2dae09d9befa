// Package channel is the private connection between the broker and one backend
// process: it carries frames, and descriptors beside them, without ever mixing
// up which belong together.
//
// A channel is a SOCK_SEQPACKET pair, where one message is one datagram; where
// the system has none it is a stream pair, where a message's descriptors travel
// with its first byte and a reader takes exactly header, then body
// (docs/protocol.md, section "Channel").
//
// A leaf: of usher it imports fdpass, frame, unixconn and wire alone. A Conn owns its
// socket. Descriptors given to Send stay the caller's; descriptors that
// Recv returns are the caller's.
package channel

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/fdpass"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/unixconn"
	"github.com/seed-7265657e/usher/internal/wire"
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

// Conn is one end of a channel. Send may be called from many goroutines at
// once, Recv and TryRecv from one.
type Conn struct {
	sock *unixconn.Conn
	kind Kind
	buf  []byte
	in   fdpass.Receiver

	sending sync.Mutex // on a stream: held by one Send at a time
	torn    bool       // a message went out in part; guarded by sending
}

// New makes a Conn of a connected Unix socket and owns fd from then on.
func New(fd int, kind Kind) *Conn { return Over(unixconn.New(fd), kind) }

// Over makes a Conn of a socket and owns it from then on. Over a stream, bytes
// and descriptors behind the last message received stay in the kernel.
func Over(sock *unixconn.Conn, kind Kind) *Conn { return &Conn{sock: sock, kind: kind} }

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
	if c.kind == Stream { // a datagram is atomic by itself
		c.sending.Lock()
		defer c.sending.Unlock()
		if c.torn { // the peer would read this message as the rest of that one
			return syscall.EPIPE
		}
	}
	sock, ok := c.sock.Borrow()
	if !ok {
		return os.ErrClosed
	}
	defer c.sock.Return()
	n, err := fdpass.Send(sock, msg, fds...)
	switch {
	case err != nil:
		return err
	case n < len(msg):
		c.torn = true
		return &PartialSendError{Sent: n, Size: len(msg)}
	}
	return nil
}

// Message is one received message.
type Message struct {
	// Body is the frame's body; it is valid until the next Recv.
	Body []byte
	// FDs belong to the caller, who takes or closes each of them before the next
	// Recv.
	FDs fdpass.Descriptors
	// Fault says that the message arrived damaged (fdpass.ErrTruncated,
	// fdpass.ErrDescriptorsLost). It must be answered all the same.
	Fault error
}

// Frame decodes the message's body. The error is a *frame.DecodeError.
func (m Message) Frame() (*wire.Frame, error) {
	f := new(wire.Frame)
	return f, frame.Unmarshal(m.Body, f)
}

// Recv waits for the next message. It returns io.EOF when the peer is gone,
// os.ErrDeadlineExceeded and os.ErrClosed as a file does, and an error wrapping
// ErrProtocol when the bytes are no frame. With any error no descriptor stays
// open. Only a deadline leaves the channel usable, and on a stream only one that
// passes between two messages.
func (c *Conn) Recv() (Message, error) {
	if c.kind == Stream {
		return c.recvStream()
	}
	m, err := c.wait(c.buffer())
	if err != nil {
		return Message{}, err
	}
	return c.datagram(m)
}

// TryRecv is Recv without the wait: syscall.EAGAIN when no message is there. It
// needs a Seqpacket channel: on a stream, a message arrives in parts.
func (c *Conn) TryRecv() (Message, error) {
	sock, ok := c.sock.Borrow()
	if !ok {
		return Message{}, os.ErrClosed
	}
	defer c.sock.Return()
	m, err := c.receive(sock, c.buffer())
	if err != nil {
		return Message{}, err
	}
	return c.datagram(m)
}

// Watched lends the socket to an event loop, which tells when TryRecv has
// something to return. It is the Conn's, and good until Close; false after that.
func (c *Conn) Watched() (fd int, ok bool) {
	if fd, ok = c.sock.Borrow(); ok {
		c.sock.Return()
	}
	return fd, ok
}

func (c *Conn) buffer() []byte {
	if c.buf == nil {
		c.buf = make([]byte, MaxMessage)
	}
	return c.buf
}

func (c *Conn) datagram(m fdpass.Message) (Message, error) {
	if m.N == 0 && m.FDs.Len() == 0 && m.Fault == nil {
		return Message{}, io.EOF
	}
	msg := Message{FDs: m.FDs, Fault: m.Fault}
	data := c.buf[:m.N]
	size, whole, err := frame.Header(data, frame.MaxBody)
	if err != nil || !whole {
		return Message{}, c.broken(&msg, "not a frame")
	}
	if size != m.N-frame.HeaderLen && m.Fault == nil {
		return Message{}, c.broken(&msg, "length does not fit the datagram")
	}
	msg.Body = data[frame.HeaderLen:]
	return msg, nil
}

func (c *Conn) recvStream() (Message, error) {
	var msg Message
	header := c.buffer()[:frame.HeaderLen]
	if err := c.fill(header, true, &msg); err != nil {
		return Message{}, err
	}
	size, _, err := frame.Header(header, MaxMessage-frame.HeaderLen)
	if err != nil {
		return Message{}, c.broken(&msg, "not a frame: "+err.Error())
	}
	msg.Body = c.buf[frame.HeaderLen : frame.HeaderLen+size]
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
		m, err := c.wait(part[done:])
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
			msg.FDs = m.FDs.Move() // the next read uses the same buffer
		}
		if m.Fault != nil {
			msg.Fault = m.Fault
		}
		done += m.N
	}
	return nil
}

// wait receives the next bytes, as soon as there are some.
func (c *Conn) wait(buf []byte) (m fdpass.Message, err error) {
	raw, err := c.sock.SyscallConn()
	if err != nil {
		return m, closed(err)
	}
	waitErr := raw.Read(func(sock uintptr) bool {
		m, err = c.receive(int(sock), buf)
		return !errors.Is(err, syscall.EAGAIN)
	})
	if waitErr != nil {
		return fdpass.Message{}, closed(waitErr)
	}
	return m, err
}

func (c *Conn) receive(sock int, buf []byte) (fdpass.Message, error) {
	m, err := c.in.Recv(sock, buf)
	if errors.Is(err, syscall.ECONNRESET) {
		// The peer left with messages unread. The kernel says so once, ahead of
		// what the peer itself had sent; behind it comes end of file.
		m, err = c.in.Recv(sock, buf)
	}
	return m, err
}

// closed gives the error for a closed socket the name by which callers know it.
func closed(err error) error {
	if errors.Is(err, net.ErrClosed) {
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

// End ends the conversation and leaves the descriptor open: Recv here, and the
// peer behind what was sent to it, find the end of file. Close must follow.
func (c *Conn) End() { _ = c.sock.Shutdown() } // fails on one that has ended

// Close closes this end. A Recv under way returns os.ErrClosed. Messages
// already sent stay readable for the peer. It may be called again.
func (c *Conn) Close() error {
	if err := c.sock.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

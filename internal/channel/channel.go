// Package channel is the private connection between the broker and one backend
// process: it carries frames, and descriptors beside them, without ever mixing
// up which belong together.
//
// A channel is a SOCK_SEQPACKET pair, where one message is one datagram
// (docs/protocol.md, section "Channel"). ReceiveFramed reads the one message with
// descriptors that travels on a stream, the answer to a registration.
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

// ErrProtocol says that the peer broke the channel's framing. The channel can't
// be used any more.
var ErrProtocol = errors.New("peer broke the channel's framing")

// Conn is one end of a channel. Send may be called from many goroutines at
// once, Recv and TryRecv from one.
type Conn struct {
	sock *unixconn.Conn
	buf  []byte
	in   fdpass.Receiver
}

// New makes a Conn of a connected Unix socket of type SOCK_SEQPACKET, and owns fd
// from then on.
func New(fd int) *Conn { return &Conn{sock: unixconn.New(fd)} }

// Send sends one framed message with fds, which it borrows. It never blocks: a
// full channel is EAGAIN. With an error nothing was sent. After Close it is
// os.ErrClosed; any other error is the system's.
func (c *Conn) Send(msg []byte, fds ...int) error {
	if len(msg) > MaxMessage {
		return fmt.Errorf("message of %d bytes does not fit a channel: %w", len(msg), syscall.EMSGSIZE)
	}
	sock, ok := c.sock.Borrow()
	if !ok {
		return os.ErrClosed
	}
	defer c.sock.Return()
	_, err := fdpass.Send(sock, msg, fds...) // a datagram goes whole or not at all
	return err
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
// open. Only a deadline leaves the channel usable.
func (c *Conn) Recv() (Message, error) {
	m, err := receive(c.sock, &c.in, c.buffer())
	if err != nil {
		return Message{}, err
	}
	return c.datagram(m)
}

// TryRecv is Recv without the wait: syscall.EAGAIN when no message is there.
func (c *Conn) TryRecv() (Message, error) {
	sock, ok := c.sock.Borrow()
	if !ok {
		return Message{}, os.ErrClosed
	}
	defer c.sock.Return()
	m, err := tryReceive(sock, &c.in, c.buffer())
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
		return Message{}, broken(&msg, "not a frame")
	}
	if size != m.N-frame.HeaderLen && m.Fault == nil {
		return Message{}, broken(&msg, "length does not fit the datagram")
	}
	msg.Body = data[frame.HeaderLen:]
	return msg, nil
}

// receive receives the next bytes, as soon as there are some.
func receive(sock *unixconn.Conn, in *fdpass.Receiver, buf []byte) (m fdpass.Message, err error) {
	raw, err := sock.SyscallConn()
	if err != nil {
		return m, closed(err)
	}
	waitErr := raw.Read(func(fd uintptr) bool {
		m, err = tryReceive(int(fd), in, buf)
		return !errors.Is(err, syscall.EAGAIN)
	})
	if waitErr != nil {
		return fdpass.Message{}, closed(waitErr)
	}
	return m, err
}

func tryReceive(fd int, in *fdpass.Receiver, buf []byte) (fdpass.Message, error) {
	m, err := in.Recv(fd, buf)
	if errors.Is(err, syscall.ECONNRESET) {
		// The peer left with messages unread. The kernel says so once, ahead of
		// what the peer itself had sent; behind it comes end of file.
		m, err = in.Recv(fd, buf)
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

func broken(msg *Message, what string) error {
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

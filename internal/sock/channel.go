package sock

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/wire"
)

// MaxMessage bounds one message, header included, in bytes. An offer is a few
// hundred; one that a client inflates beyond this with trace fields is not
// handed off.
const MaxMessage = 16 << 10

// ErrProtocol says that the peer broke the channel's framing. The channel can't
// be used any more.
var ErrProtocol = errors.New("peer broke the channel's framing")

// Channel is one end of the private connection between the broker and one backend: it
// carries frames, and descriptors beside them, without ever mixing up which belong
// together. It is a SOCK_SEQPACKET socket, where one message is one datagram, or a stream,
// where the system has none of those (docs/protocol.md, section "Channel").
//
// Send may be called from many goroutines at once, Recv and TryRecv from one.
type Channel struct {
	sock   *Conn
	buf    []byte
	in     receiver
	stream *streamed // nil where a message is a datagram
}

// NewChannel makes a Channel of a connected Unix socket of type SOCK_SEQPACKET or
// SOCK_STREAM, or of a named pipe, and owns it from then on. It does not block any more: an
// end that was inherited does, and macOS' sends go by that alone.
func NewChannel(fd *FD) *Channel {
	_ = setNonblock(fd.n, true) // fails on what is no descriptor, as all else will
	stream := isStream(fd.n)
	c := &Channel{sock: NewConn(fd)}
	if stream {
		c.stream = newStreamed(c.sock)
	}
	return c
}

// Send sends one framed message with what is lent beside it. It never blocks: a
// full channel is EAGAIN. With an error nothing was sent. After Close it is
// os.ErrClosed; any other error is the system's, EBADF for what can't be lent any more.
//
// A stream may take a part of the message alone, with what is lent; a goroutine sends the
// rest when there is room, and a Close before that leaves the peer with ErrUnexpectedEOF.
func (c *Channel) Send(msg []byte, with ...Lender) error {
	if len(msg) > MaxMessage {
		return fmt.Errorf("message of %d bytes does not fit a channel: %w", len(msg), errno.EMSGSIZE)
	}
	fd, ok := c.sock.borrow()
	if !ok {
		return os.ErrClosed
	}
	defer c.sock.giveBack()
	if c.stream == nil {
		_, err := send(fd, msg, with) // a datagram goes whole or not at all
		return err
	}
	left, err := c.stream.send(fd, msg, with)
	if left {
		go c.stream.finish(c.sock)
	}
	return err
}

// Message is one received message.
type Message struct {
	// Body is the frame's body; it is valid until the next Recv.
	Body []byte
	// FDs belong to the caller, who takes or closes each of them before the next
	// Recv.
	FDs Descriptors
	// Fault says that the message arrived damaged (ErrTruncated,
	// ErrDescriptorsLost). It must be answered all the same.
	Fault error
}

// Frame decodes the message's body. The error is a *frame.DecodeError.
func (m Message) Frame() (*wire.Frame, error) {
	f := new(wire.Frame)
	return f, frame.Unmarshal(m.Body, f)
}

// Recv waits for the next message. It returns io.EOF when the peer is gone,
// os.ErrDeadlineExceeded and os.ErrClosed as a file does, and an error wrapping
// ErrProtocol when the bytes are no frame; inside a message on a stream the end is
// io.ErrUnexpectedEOF. With any error no descriptor stays open. Only a deadline leaves the
// channel usable.
func (c *Channel) Recv() (Message, error) {
	if c.stream != nil {
		return c.recvStream()
	}
	m, err := receive(c.sock, &c.in, c.buffer())
	if err != nil {
		return Message{}, err
	}
	return c.datagram(m)
}

// recvStream is Recv on a stream.
func (c *Channel) recvStream() (m Message, err error) {
	raw, err := c.sock.SyscallConn()
	if err != nil {
		return m, closed(err)
	}
	waitErr := raw.Read(func(fd uintptr) bool {
		m, err = c.stream.next(int(fd), &c.in)
		return !errors.Is(err, errno.EAGAIN)
	})
	if waitErr != nil {
		return Message{}, closed(waitErr)
	}
	return m, err
}

// TryRecv is Recv without the wait: errno.EAGAIN when no message is there, or not all of
// it.
func (c *Channel) TryRecv() (Message, error) {
	fd, ok := c.sock.borrow()
	if !ok {
		return Message{}, os.ErrClosed
	}
	defer c.sock.giveBack()
	if c.stream != nil {
		return c.stream.next(fd, &c.in)
	}
	m, err := c.in.recv(fd, c.buffer())
	if err != nil {
		return Message{}, err
	}
	return c.datagram(m)
}

func (c *Channel) borrow() (int, bool) { return c.sock.borrow() }

func (c *Channel) giveBack() { c.sock.giveBack() }

func (c *Channel) number() int { return c.sock.number() }

func (c *Channel) buffer() []byte {
	if c.buf == nil {
		c.buf = make([]byte, MaxMessage)
	}
	return c.buf
}

func (c *Channel) datagram(m Received) (Message, error) {
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
func (c *Channel) SetDeadline(t time.Time) error { return c.sock.SetReadDeadline(t) }

// EndReading has the kernel refuse what the peer sends from now on. What it had sent before
// can still be received; behind that Recv is io.EOF, at once. It does nothing, and is false,
// where a peer can't be kept from sending: macOS and the BSDs let him, and throw away what
// he has sent.
func (c *Channel) EndReading() bool {
	if endsWriter {
		_ = c.sock.CloseRead() // fails on one that has ended
	}
	return endsWriter
}

// Whole reports whether no part of a message is kept here: none has arrived of which more is to
// come, and none is still on its way out. Then another process can go on with the channel.
func (c *Channel) Whole() bool { return c.stream == nil || c.stream.whole() }

// End ends the conversation and leaves the descriptor open: Recv here, and the
// peer behind what was sent to it, find the end of file. Close must follow.
func (c *Channel) End() { _ = c.sock.Shutdown() } // fails on one that has ended

// Close closes this end. A Recv under way returns os.ErrClosed. Messages
// already sent stay readable for the peer. It may be called again.
func (c *Channel) Close() error {
	err := c.sock.Close()
	if c.stream != nil {
		c.stream.close()
	}
	if !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

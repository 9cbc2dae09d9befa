package client

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Route is how a connection came about.
type Route string

const (
	// HandedOver: the connection to the broker, now served by the backend.
	HandedOver Route = "handed_over"
	// Reconnected: a new connection to the pipe the broker named.
	Reconnected Route = "reconnected"
	// HelloSkipped: a connection to the cached endpoint; no broker was asked.
	HelloSkipped Route = "hello_skipped"
)

// Conn is a connection to a backend: a net.Conn that also has CloseRead,
// CloseWrite and SyscallConn. The caller closes it.
//
// Until the first byte of an answer arrives, a Read that fails after something
// was written returns an *OutcomeError: the request may have been run. The end
// of the stream counts as failure there too, unless the caller has closed its
// own direction (CloseWrite) and so expects no more than an end.
//
// That holds for the first request. Once a byte of an answer has arrived, a
// later request that is lost with the connection fails with a plain error, which
// says nothing about whether it was run.
//
// A Conn that Dial returned without having asked (see Dial) asks at the first
// Write or Read. Until the verdict is known, Route, Endpoint, BackendVersion and
// ID are empty, and a deadline that passes ends the connection.
type Conn struct {
	link  link
	lazy  *lazy // nil when Dial has asked
	about atomic.Pointer[opened]

	reading sync.Mutex // guards rest
	rest    []byte     // read along with the verdict, and not yet by the caller
	resting atomic.Bool

	// writing counts the Writes under way: their bytes may be with the backend
	// before the Write has returned.
	writing                    atomic.Int32
	sent, answered, halfClosed atomic.Bool
}

var _ net.Conn = (*Conn)(nil)

func newConn(d *dialing, o *opened) *Conn {
	c := &Conn{}
	c.link.path = d.Broker
	c.settle(o)
	return c
}

// settle makes o what the Conn reads and writes.
func (c *Conn) settle(o *opened) {
	c.rest = o.rest
	c.resting.Store(len(o.rest) > 0)
	c.about.Store(o)
	c.link.use(o.conn, true)
}

// Route returns how the connection came about.
func (c *Conn) Route() Route {
	if o := c.about.Load(); o != nil {
		return o.route
	}
	return ""
}

// Endpoint returns the path of the backend's own pipe, to be kept for
// Options.CachedEndpoint.
func (c *Conn) Endpoint() string {
	if o := c.about.Load(); o != nil {
		return o.endpoint
	}
	return ""
}

// BackendVersion returns the backend's version; empty when no broker was asked.
func (c *Conn) BackendVersion() string {
	if o := c.about.Load(); o != nil {
		return o.version
	}
	return ""
}

// ID returns the broker's number for this connection, which its log names too;
// 0 when no broker was asked.
func (c *Conn) ID() uint64 {
	if o := c.about.Load(); o != nil {
		return o.id
	}
	return 0
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	if c.about.Load() == nil {
		if err := c.awaitRead(); err != nil {
			return 0, err
		}
	}
	n, err := c.read(p)
	if n > 0 && !c.answered.Load() {
		c.answered.Store(true)
	}
	if err != nil && c.unanswered() && !(err == io.EOF && c.halfClosed.Load()) {
		err = &OutcomeError{Err: err}
	}
	return n, err
}

func (c *Conn) read(p []byte) (int, error) {
	if c.resting.Load() && len(p) > 0 {
		if n := c.takeRest(p); n > 0 {
			return n, nil
		}
	}
	conn := c.about.Load().conn
	if !c.answered.Load() {
		conn.AwaitRead(soon)
	}
	return conn.Read(p)
}

func (c *Conn) takeRest(p []byte) int {
	c.reading.Lock()
	defer c.reading.Unlock()
	n := copy(p, c.rest)
	if c.rest = c.rest[n:]; len(c.rest) == 0 {
		c.rest = nil
		c.resting.Store(false)
	}
	return n
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	if c.about.Load() == nil {
		n, done, err := c.firstWrite(p)
		if done || err != nil {
			return n, err
		}
	}
	n, err := c.write(p)
	if err != nil && c.unanswered() {
		err = &OutcomeError{Err: err}
	}
	return n, err
}

func (c *Conn) write(p []byte) (int, error) {
	conn := c.about.Load().conn
	if c.sent.Load() || len(p) == 0 {
		return conn.Write(p)
	}
	c.writing.Add(1)
	defer c.writing.Add(-1)
	n, err := conn.Write(p)
	if n > 0 {
		c.sent.Store(true)
	}
	return n, err
}

// unanswered looks at writing before sent, as a Write leaves them in the other
// order.
func (c *Conn) unanswered() bool {
	return (c.writing.Load() > 0 || c.sent.Load()) && !c.answered.Load()
}

// CloseWrite ends this client's direction; the backend reads end of stream.
func (c *Conn) CloseWrite() error {
	c.halfClosed.Store(true)
	if c.about.Load() == nil {
		if done, err := c.closeWriteEarly(); done || err != nil {
			return err
		}
	}
	return c.about.Load().conn.CloseWrite()
}

// CloseRead ends the other direction: Read returns no more than has arrived.
func (c *Conn) CloseRead() error {
	if err := c.await(); err != nil {
		return err
	}
	return c.about.Load().conn.CloseRead()
}

// SyscallConn implements syscall.Conn. Bytes that came along with the verdict are
// only to be had from Read.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	if err := c.await(); err != nil {
		return nil, err
	}
	return c.about.Load().conn.SyscallConn()
}

// Close closes the connection; what waits on it returns net.ErrClosed.
func (c *Conn) Close() error { return c.link.close() }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.link.setReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.link.setWriteDeadline(t) }

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr {
	if o := c.about.Load(); o != nil {
		return o.conn.LocalAddr()
	}
	return &net.UnixAddr{Net: "unix"}
}

// RemoteAddr implements net.Conn: the path that was dialled.
func (c *Conn) RemoteAddr() net.Addr {
	if o := c.about.Load(); o != nil {
		return o.conn.RemoteAddr()
	}
	return &net.UnixAddr{Net: "unix", Name: c.link.path}
}

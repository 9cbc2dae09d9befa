package client

import (
	"net"
	"runtime"
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
// CloseWrite and SyscallConn. The caller closes it; one that is dropped without
// Close is closed when the garbage collector finds it.
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
// A Conn that a Dialer returned without having asked (see Dialer.Dial) asks at the first
// Write or Read. Until the verdict is known, Route, Endpoint, BackendVersion and
// ID are empty. A deadline that passes meanwhile ends the call and no more: the
// next call goes on to wait. Options.Timeout, counted from the call that asked,
// ends the connection, except that a verdict that has arrived by then counts.
type Conn struct {
	// The state is apart, so that a Conn that nobody holds can be collected while
	// its cleanup holds the state.
	s       *stream
	cleanup runtime.Cleanup
}

var _ net.Conn = (*Conn)(nil)

// newConn has s closed when the Conn is no longer reachable.
func newConn(s *stream) *Conn {
	c := &Conn{s: s}
	c.cleanup = runtime.AddCleanup(c, func(s *stream) { _ = s.close() }, s)
	return c
}

// Each method keeps c reachable to its end: its cleanup would end the call.

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.s.Read(p)
	runtime.KeepAlive(c)
	return n, err
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.s.Write(p)
	runtime.KeepAlive(c)
	return n, err
}

// CloseWrite ends this client's direction; the backend reads end of stream.
func (c *Conn) CloseWrite() error {
	err := c.s.closeWrite()
	runtime.KeepAlive(c)
	return err
}

// CloseRead ends the other direction: Read returns no more than has arrived.
func (c *Conn) CloseRead() error {
	err := c.s.closeRead()
	runtime.KeepAlive(c)
	return err
}

// Close closes the connection; what waits on it returns net.ErrClosed.
func (c *Conn) Close() error {
	err := c.s.close()
	c.cleanup.Stop()
	return err
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	err := c.s.setDeadlines(&t, &t)
	runtime.KeepAlive(c)
	return err
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	err := c.s.setDeadlines(&t, nil)
	runtime.KeepAlive(c)
	return err
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	err := c.s.setDeadlines(nil, &t)
	runtime.KeepAlive(c)
	return err
}

// Route returns how the connection came about.
func (c *Conn) Route() Route { return c.s.info().route }

// Endpoint returns the path of the backend's own pipe, to be kept for
// Options.CachedEndpoint.
func (c *Conn) Endpoint() string { return c.s.info().endpoint }

// BackendVersion returns the backend's version; empty when no broker was asked.
func (c *Conn) BackendVersion() string { return c.s.info().version }

// ID returns the broker's number for this connection, which its log names too;
// 0 when no broker was asked.
func (c *Conn) ID() uint64 { return c.s.info().id }

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr {
	defer runtime.KeepAlive(c)
	if conn := c.s.info().conn; conn != nil {
		return conn.LocalAddr()
	}
	return &net.UnixAddr{Net: "unix"}
}

// RemoteAddr implements net.Conn: the path that was dialled, or the other host's URL.
func (c *Conn) RemoteAddr() net.Addr {
	defer runtime.KeepAlive(c)
	if conn := c.s.info().conn; conn != nil && c.s.host == nil {
		return conn.RemoteAddr()
	}
	return &net.UnixAddr{Net: "unix", Name: c.s.Broker}
}

// SyscallConn implements syscall.Conn. Bytes that came along with the verdict are
// only to be had from Read; with Options.NoReadAhead there are none.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	raw, err := c.s.syscallConn()
	if err != nil {
		return nil, err
	}
	return &rawConn{raw, c}, nil
}

// rawConn keeps its Conn reachable.
type rawConn struct {
	raw  syscall.RawConn
	conn *Conn
}

func (r *rawConn) Control(f func(uintptr)) error {
	err := r.raw.Control(f)
	runtime.KeepAlive(r)
	return err
}

func (r *rawConn) Read(f func(uintptr) bool) error {
	err := r.raw.Read(f)
	runtime.KeepAlive(r)
	return err
}

func (r *rawConn) Write(f func(uintptr) bool) error {
	err := r.raw.Write(f)
	runtime.KeepAlive(r)
	return err
}

package client

import (
	"net"
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
// ID are empty. A deadline that passes meanwhile ends the call and no more: the
// next call goes on to wait. Options.Timeout, counted from the call that asked,
// ends the connection, except that a verdict that has arrived by then counts.
type Conn struct{ s *stream }

var _ net.Conn = (*Conn)(nil)

func newConn(s *stream) *Conn { return &Conn{s} }

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	return c.s.Read(p)
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	return c.s.Write(p)
}

// CloseWrite ends this client's direction; the backend reads end of stream.
func (c *Conn) CloseWrite() error {
	return c.s.closeWrite()
}

// CloseRead ends the other direction: Read returns no more than has arrived.
func (c *Conn) CloseRead() error {
	return c.s.closeRead()
}

// Close closes the connection; what waits on it returns net.ErrClosed.
func (c *Conn) Close() error {
	return c.s.close()
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	return c.s.setDeadlines(&t, &t)
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.s.setDeadlines(&t, nil)
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.s.setDeadlines(nil, &t)
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
	if conn := c.s.info().conn; conn != nil {
		return conn.LocalAddr()
	}
	return &net.UnixAddr{Net: "unix"}
}

// RemoteAddr implements net.Conn: the path that was dialled.
func (c *Conn) RemoteAddr() net.Addr {
	if conn := c.s.info().conn; conn != nil {
		return conn.RemoteAddr()
	}
	return &net.UnixAddr{Net: "unix", Name: c.s.Broker}
}

// SyscallConn implements syscall.Conn. Bytes that came along with the verdict are
// only to be had from Read.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	return c.s.syscallConn()
}

package client

import (
	"io"
	"net"
	"sync/atomic"
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

// Conn is a connection to a backend. Beside what is declared here it has
// everything a *net.UnixConn has. The caller closes it.
//
// Until the first byte of an answer arrives, a Read that fails after something
// was written returns an *OutcomeError: the request may have been run. The end
// of the stream counts as failure there too, unless the caller has closed its
// own direction (CloseWrite) and so expects no more than an end.
//
// That holds for the first request. Once a byte of an answer has arrived, a
// later request that is lost with the connection fails with a plain error, which
// says nothing about whether it was run.
type Conn struct {
	*net.UnixConn
	route    Route
	endpoint string
	version  string
	id       uint64

	// writing counts the Writes under way: their bytes may be with the backend
	// before the Write has returned.
	writing                    atomic.Int32
	sent, answered, halfClosed atomic.Bool
}

// Route returns how the connection came about.
func (c *Conn) Route() Route { return c.route }

// Endpoint returns the path of the backend's own pipe, to be kept for
// Options.CachedEndpoint.
func (c *Conn) Endpoint() string { return c.endpoint }

// BackendVersion returns the backend's version; empty when no broker was asked.
func (c *Conn) BackendVersion() string { return c.version }

// ID returns the broker's number for this connection, which its log names too;
// 0 when no broker was asked.
func (c *Conn) ID() uint64 { return c.id }

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.UnixConn.Read(p)
	if n > 0 && !c.answered.Load() {
		c.answered.Store(true)
	}
	if err != nil && c.unanswered() && !(err == io.EOF && c.halfClosed.Load()) {
		err = &OutcomeError{Err: err}
	}
	return n, err
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.write(p)
	if err != nil && c.unanswered() {
		err = &OutcomeError{Err: err}
	}
	return n, err
}

func (c *Conn) write(p []byte) (int, error) {
	if c.sent.Load() || len(p) == 0 {
		return c.UnixConn.Write(p)
	}
	c.writing.Add(1)
	defer c.writing.Add(-1)
	n, err := c.UnixConn.Write(p)
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
	return c.UnixConn.CloseWrite()
}

// Package unixconn is a connected Unix stream socket that costs nothing until it
// has to wait.
//
// A net.Conn is registered with the runtime's poller before its first byte; a
// connection that carries one short exchange pays for that and never needs it.
// Here reads and writes go to the kernel at once, without blocking, and only the
// first one that would have to wait registers the descriptor. No copy of the
// descriptor is ever made.
//
// A leaf: of usher it imports rawsys alone. A Conn owns its descriptor until Close.
package unixconn

import (
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// Conn is a net.Conn, and as safe for concurrent use as any.
var _ net.Conn = (*Conn)(nil)

// opError gives an error the form that net's connections give it, so that those
// who ask for net.Error, net.ErrClosed or an errno find what they look for.
func opError(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	if errors.Is(err, os.ErrClosed) {
		err = net.ErrClosed
	}
	return &net.OpError{Op: op, Net: "unix", Err: err}
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	return c.setDeadline(t, deadlines.SetDeadline)
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.setDeadline(t, deadlines.SetReadDeadline)
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.setDeadline(t, deadlines.SetWriteDeadline)
}

// deadlines is what the runtime's poller offers.
type deadlines interface {
	SetDeadline(time.Time) error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

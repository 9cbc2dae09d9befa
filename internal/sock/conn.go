// Package sock is usher's Unix sockets, on Windows its named pipes, and the descriptors that
// travel over them, there handles, as values that own them.
//
//	FD, Lender    a descriptor of one's own, and what lends one (fd.go)
//	Conn          a stream that costs nothing until it has to wait (conn_*.go, write_*.go)
//	Listener      accepts without waiting (listener.go)
//	Descriptors   what came beside bytes in one message: SCM_RIGHTS (message.go), or
//	              duplicated handles (pass_windows.go)
//	Channel       the broker's private connection to one backend (channel.go)
//	Credentials   who is at the other end (credentials.go)
//
// Above this package no exported signature has a descriptor's number. What one is given
// to send or to watch is a Lender, which keeps it; what one gets is a value that closes
// it. Who drops such a value without closing it has the runtime close it, but for a Conn
// that is part of a value with a cleanup of its own (Conn.CloseWhenDropped); what nobody
// takes out of a message is closed when the next one comes.
//
// A leaf: of usher it imports frame and wire, whose messages a Channel carries, and its
// own sub-leaf rawsys, the system calls.
package sock

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

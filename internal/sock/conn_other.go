//go:build !unix && !windows

package sock

import (
	"errors"
	"net"
	"os"
	"time"
)

const (
	// endsWriter is false: a peer can't be kept from writing.
	endsWriter = false
	// modeDecides is false: there is no mode.
	modeDecides = false
)

// Conn is a connected Unix socket; on this system it waits as net's does.
type Conn struct{ *net.UnixConn }

// NewConn answers with a Conn that is good for nothing: descriptors don't travel on
// this system.
func NewConn(*FD) *Conn { return newConn(-1) }

func newConn(int) *Conn { return &Conn{&net.UnixConn{}} }

// CloseWhenDropped does nothing: package net's connections do so by themselves.
func (c *Conn) CloseWhenDropped() {}

func (c *Conn) borrow() (int, bool) { return -1, false } // there is no descriptor to lend

func (c *Conn) giveBack() {}

func (c *Conn) number() int { return -1 }

// TryRead answers errors.ErrUnsupported.
func (c *Conn) TryRead([]byte) (int, error) { return 0, opError("read", errors.ErrUnsupported) }

// KeepUnbound does nothing: here whoever gets a connection can wait for it.
func (c *Conn) KeepUnbound() {}

// Inheritable answers errors.ErrUnsupported: connections are not inherited on this system.
func (c *Conn) Inheritable() (*os.File, error) { return nil, opError("dup", errors.ErrUnsupported) }

// CheckRead knows of nothing that keeps a Read from reading.
func (c *Conn) CheckRead() error { return nil }

// Dial connects to the Unix socket at path.
func Dial(path string) (*Conn, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	return &Conn{c}, nil
}

// WriteParts writes the parts one behind the other.
func (c *Conn) WriteParts(parts ...[]byte) (done int, err error) {
	for _, p := range parts {
		n, err := c.UnixConn.Write(p)
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}

// TryWrite writes the parts; on this system it may wait.
func (c *Conn) TryWrite(parts ...[]byte) (int, error) { return c.WriteParts(parts...) }

// Prefix does nothing: it is for connections that were handed over, of which there are
// none on this system.
func (c *Conn) Prefix([]byte) {}

// Prefixed is false.
func (c *Conn) Prefixed() bool { return false }

// Flush does nothing.
func (c *Conn) Flush() error { return nil }

// AwaitRead is false: there is no shorter way to wait than Read.
func (c *Conn) AwaitRead(time.Duration) bool { return false }

// Shutdown shuts down both directions.
func (c *Conn) Shutdown() error {
	_ = c.UnixConn.CloseWrite()
	return c.UnixConn.CloseRead()
}

// ShutdownClose is Close, which shuts down both directions first.
func (c *Conn) ShutdownClose() error {
	_ = c.Shutdown()
	return c.UnixConn.Close()
}

func (c *Conn) setDeadline(t time.Time, set func(deadlines, time.Time) error) error {
	return set(c.UnixConn, t)
}

func accept(int) (*Conn, error) { return nil, opError("accept", errors.ErrUnsupported) }

func shutdownListener(int) error { return opError("close", errors.ErrUnsupported) }

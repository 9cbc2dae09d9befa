package backend

import (
	"net"
	"sync"
	"time"

	"github.com/seed-7265657e/usher/internal/peer"
)

// Conn is a client's connection, as Accept returns it. Beside what is declared
// here it has everything a *net.UnixConn has: deadlines, CloseWrite,
// SyscallConn. It belongs to whoever accepted it.
type Conn struct {
	*net.UnixConn
	handedOver bool
	sniff      *sniffer // nil where no identity probe can arrive

	identity func() Client
}

// Client is a verified client: the kernel's word, not the client's.
type Client struct {
	UID uint32
	// PID is 0 when it can't be trusted: the process is gone, lives in another
	// pid namespace, or the kernel is older than Linux 6.5.
	PID int
}

func newConn(c *net.UnixConn, handedOver bool) *Conn {
	return &Conn{UnixConn: c, handedOver: handedOver, identity: sync.OnceValue(func() Client { return identify(c) })}
}

func identify(c *net.UnixConn) Client {
	client := Client{UID: peer.OverflowUID}
	rc, err := c.SyscallConn()
	if err != nil {
		return client
	}
	_ = rc.Control(func(fd uintptr) {
		if cred, err := peer.Of(int(fd)); err == nil {
			client = Client{UID: cred.UID, PID: peer.TrustedPID(int(fd))}
		}
	})
	return client
}

// HandedOver reports whether the broker handed the connection over; otherwise
// the client dialled the backend's pipe.
func (c *Conn) HandedOver() bool { return c.handedOver }

// Client returns who is at the other end. It is asked of the kernel once, at
// the first call; call it before the client may have exited to learn its pid.
func (c *Conn) Client() Client { return c.identity() }

// Close closes the connection. On one that was handed over it shuts down both
// directions first: the broker, or a frozen process, may still hold a
// descriptor of it, and the client must see its end now all the same.
func (c *Conn) Close() error {
	if c.handedOver {
		_ = c.UnixConn.CloseWrite()
		_ = c.UnixConn.CloseRead()
	}
	return c.UnixConn.Close()
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	if c.sniff != nil && !c.sniff.done() {
		return c.sniff.read(p)
	}
	return c.UnixConn.Read(p)
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	if c.sniff == nil {
		return c.UnixConn.SetDeadline(t)
	}
	if err := c.sniff.setReadDeadline(t); err != nil {
		return err
	}
	return c.UnixConn.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if c.sniff == nil {
		return c.UnixConn.SetReadDeadline(t)
	}
	return c.sniff.setReadDeadline(t)
}

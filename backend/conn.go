package backend

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/sock"
)

// Conn is a client's connection, as Accept returns it: a net.Conn that also has
// CloseRead, CloseWrite and SyscallConn. It belongs to whoever accepted it.
//
// The bytes that a client sent along with its Hello have been read already; Read
// returns them first, and SyscallConn does not show them. The reply that such a client
// waits for goes ahead of the first Write, or soon by itself.
type Conn struct {
	sock       *sock.Conn
	handedOver bool
	member     *member  // of the Listener's population
	placed     bool     // holds a place in the accept queue; used on the loop
	sniff      *sniffer // nil where no identity probe can arrive

	ack pendingAck // until the broker has been told; used on the loop

	reading sync.Mutex  // guards held; never held across a call that can block
	held    []byte      // read from the socket, and not yet by the application
	holding atomic.Bool // held is not empty

	identity func() Client
	dropped  runtime.Cleanup // set by Accept; stopped by Close
}

// Client is a verified client: the kernel's word, not the client's.
type Client struct {
	UID uint32
	// PID is 0 when it can't be trusted: the process is gone, lives in another
	// pid namespace, or the kernel is older than Linux 6.5.
	PID int
}

func (l *Listener) newConn(c *sock.Conn, handedOver bool) *Conn {
	return &Conn{sock: c, handedOver: handedOver, member: l.population.join(), identity: sync.OnceValue(func() Client { return identify(c) })}
}

func identify(c *sock.Conn) Client {
	client := Client{UID: sock.OverflowUID}
	if cred, err := sock.PeerOf(c); err == nil {
		client = Client{UID: cred.UID, PID: peer.TrustedPID(c)}
	}
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
	c.dropped.Stop()
	defer c.member.leave()
	_ = c.sock.Flush()
	if c.handedOver {
		return c.sock.ShutdownClose()
	}
	return c.sock.Close()
}

// CloseWrite ends this side's direction: the client reads end of stream.
func (c *Conn) CloseWrite() error {
	_ = c.sock.Flush()
	return c.sock.CloseWrite()
}

// CloseRead ends the other direction: Read returns no more than has arrived.
func (c *Conn) CloseRead() error { return c.sock.CloseRead() }

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.sock.LocalAddr() }

// RemoteAddr implements net.Conn. Its name is empty: a client binds no path.
func (c *Conn) RemoteAddr() net.Addr { return c.sock.RemoteAddr() }

// SyscallConn implements syscall.Conn.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	_ = c.sock.Flush()
	raw, err := c.sock.SyscallConn()
	if err != nil {
		return nil, err
	}
	return keptRaw{raw, c}, nil
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	defer runtime.KeepAlive(c)
	if c.sniff != nil && !c.sniff.done() {
		return c.sniff.read(p)
	}
	return c.read(p)
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	defer runtime.KeepAlive(c)
	return c.sock.Write(p)
}

// read is Read without regard to identity probes.
func (c *Conn) read(p []byte) (int, error) {
	if c.holding.Load() && len(p) > 0 {
		if err := c.sock.CheckRead(); err != nil {
			return 0, err
		}
		if n := c.takeHeld(p); n > 0 {
			return n, nil
		}
	}
	return c.sock.Read(p)
}

func (c *Conn) takeHeld(p []byte) int {
	c.reading.Lock()
	defer c.reading.Unlock()
	n := copy(p, c.held)
	c.held = c.held[n:]
	if len(c.held) == 0 {
		c.held = nil
		c.holding.Store(false)
	}
	return n
}

// hold gives the application p, which is copied, to read first.
func (c *Conn) hold(p []byte) {
	c.held = append([]byte(nil), p...)
	c.holding.Store(len(p) > 0)
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	if c.sniff == nil {
		return c.sock.SetDeadline(t)
	}
	if err := c.sniff.setReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if c.sniff == nil {
		return c.sock.SetReadDeadline(t)
	}
	return c.sniff.setReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.sock.SetWriteDeadline(t) }

var _ net.Conn = (*Conn)(nil)

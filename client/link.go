package client

import (
	"net"
	"sync"
	"time"

	"github.com/seed-7265657e/usher/internal/unixconn"
)

// link is which socket a Conn has at the moment, with what the caller has said
// about it before there was one. Its methods never wait.
type link struct {
	path string // the broker's, for RemoteAddr

	mu          sync.Mutex
	conn        *unixconn.Conn // nil before the first
	settled     bool           // conn is the one that stays
	closed      bool
	read, write time.Time
	changed     chan struct{} // closed and renewed when closed or read change; nil until somebody waits
}

// use makes c the socket. On a closed link it is closed.
func (l *link) use(c *unixconn.Conn, settled bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn, l.settled = c, settled
	if l.closed {
		_ = c.Close()
		return
	}
	if settled && !l.read.IsZero() {
		_ = c.SetReadDeadline(l.read)
	}
	if settled && !l.write.IsZero() {
		_ = c.SetWriteDeadline(l.write)
	}
}

func (l *link) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed("close")
	}
	l.closed = true
	l.tell()
	if l.conn != nil {
		_ = l.conn.Close()
	}
	return nil
}

func errClosed(op string) error { return &net.OpError{Op: op, Net: "unix", Err: net.ErrClosed} }

func (l *link) setReadDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.read = t
	l.tell()
	switch {
	case l.closed:
		return errClosed("set")
	case l.conn == nil:
		return nil
	case l.settled:
		return l.conn.SetReadDeadline(t)
	}
	return l.hurry(t)
}

func (l *link) setWriteDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.write = t
	switch {
	case l.closed:
		return errClosed("set")
	case l.conn == nil, !l.settled:
		return nil
	}
	return l.conn.SetWriteDeadline(t)
}

// hurry ends a wait for the verdict at once when t has passed; one that lies ahead
// was taken into account when the wait began, or comes too late for it.
func (l *link) hurry(t time.Time) error {
	if t.IsZero() || time.Now().Before(t) {
		return nil
	}
	return l.conn.SetDeadline(t)
}

// deadline is when a Read that begins now must end; zero for never.
func (l *link) deadline() (t time.Time, changed <-chan struct{}, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.read, l.changed, l.closed
}

// tell wakes who waits for a change. The caller holds mu.
func (l *link) tell() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

//go:build unix

package sock

import (
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is a connected Unix socket that costs nothing until it has to wait.
//
// A net.Conn is registered with the runtime's poller before its first byte; a
// connection that carries one short exchange pays for that and never needs it.
// Here reads and writes go to the kernel at once, without blocking, and only the
// first one that would have to wait registers the descriptor. No copy of the
// descriptor is ever made, but for another process (Inheritable).
//
//	raw ──an operation must wait, or a deadline is set──▶ parked
//	 └────────────────────────Close──────────────────────┴──▶ closed
//
// raw: every operation is one non-blocking system call. parked: the runtime's
// poller knows the descriptor, and what waits does so there.
type Conn struct {
	fd     int
	uses   atomic.Int32 // borrowers of fd, and one more until Close
	closed atomic.Bool
	parked atomic.Pointer[parked]

	dropped runtime.Cleanup // zero unless CloseWhenDropped

	parking sync.Mutex // held while parked is made
	writing sync.Mutex // held by one Write at a time, while it waits too: its bytes stay together
	out     outgoing   // guarded by writing

	prefixing sync.Mutex // guards prefix; never held across a call that can block
	prefix    []byte     // what must go before anything else
	prefixed  atomic.Bool
}

// parked is a Conn's place in the runtime's poller.
type parked struct {
	file    *os.File        // owns the descriptor
	raw     syscall.RawConn // file's
	sendOut func(fd uintptr) bool
}

// NewConn makes a Conn of a connected Unix socket, and owns it from then on.
func NewConn(fd *FD) *Conn {
	c := newConn(fd.take())
	c.CloseWhenDropped()
	return c
}

// giveBack ends a borrow.
func (c *Conn) giveBack() {
	if c.uses.Add(-1) > 0 {
		return
	}
	c.dropped.Stop()
	if p := c.parked.Load(); p != nil {
		_ = p.file.Close()
		return
	}
	closeFD(c.fd)
}

// Close closes the connection: what waits on it returns net.ErrClosed. A second
// Close returns net.ErrClosed.
func (c *Conn) Close() error { return c.close(false) }

// ShutdownClose is Close, which shuts down both directions first, for every holder of
// the connection.
func (c *Conn) ShutdownClose() error { return c.close(true) }

func (c *Conn) close(shut bool) error {
	if c.closed.Swap(true) { // before the peer sees the end: it may have the other closed then
		return opError("close", net.ErrClosed)
	}
	if shut {
		_ = shutdown(c.fd, unix.SHUT_RDWR)
	}
	c.giveBack()
	return nil
}

// park registers the descriptor with the runtime's poller.
func (c *Conn) park() (*parked, error) {
	if p := c.parked.Load(); p != nil {
		return p, nil
	}
	fd, ok := c.borrow()
	if !ok {
		return nil, net.ErrClosed
	}
	defer c.giveBack()
	c.parking.Lock()
	defer c.parking.Unlock()
	if p := c.parked.Load(); p != nil {
		return p, nil
	}
	if err := unix.SetNonblock(fd, true); err != nil { // shared with other holders, who may have cleared it
		return nil, err
	}
	c.dropped.Stop() // the file has a cleanup of its own
	file := os.NewFile(uintptr(fd), "unix connection")
	raw, _ := file.SyscallConn() // fails without a file alone
	p := &parked{file: file, raw: raw, sendOut: c.sendOut}
	c.parked.Store(p)
	return p, nil
}

// TryRead reads what is there, without waiting: unix.EAGAIN when nothing is,
// io.EOF at the end of the stream.
func (c *Conn) TryRead(p []byte) (int, error) {
	fd, ok := c.borrow()
	if !ok {
		return 0, net.ErrClosed
	}
	defer c.giveBack()
	n, err := recv(fd, p)
	if err == nil && n == 0 && len(p) > 0 {
		err = io.EOF
	}
	return n, err
}

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	p := c.parked.Load()
	if p == nil {
		n, err := c.TryRead(b)
		if err != unix.EAGAIN {
			return n, opError("read", err)
		}
		if p, err = c.park(); err != nil {
			return 0, opError("read", err)
		}
	}
	n, err := p.file.Read(b)
	return n, opError("read", err)
}

// CheckRead returns what keeps a Read from reading, whatever there is to read: a deadline
// that has passed, or Close.
func (c *Conn) CheckRead() error {
	var err error
	if c.closed.Load() {
		err = net.ErrClosed
	} else if p := c.parked.Load(); p != nil {
		err = p.raw.Read(func(uintptr) bool { return true })
	}
	return c.opError("read", err)
}

// waiting is set while a goroutine of this process waits in the kernel.
var waiting atomic.Bool

// AwaitRead waits in the kernel, for at most d, until Read has something to
// return, and reports whether it has. That spares a short wait the way through
// the runtime's poller, and occupies a thread instead: one goroutine of the
// process at a time may, for the others AwaitRead is false at once.
func (c *Conn) AwaitRead(d time.Duration) bool {
	if d <= 0 || c.parked.Load() != nil || !waiting.CompareAndSwap(false, true) {
		return false
	}
	defer waiting.Store(false)
	fd, ok := c.borrow()
	if !ok {
		return false
	}
	defer c.giveBack()
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds[:], int(d.Milliseconds()))
	return err == nil && n > 0
}

func (c *Conn) setDeadline(t time.Time, set func(deadlines, time.Time) error) error {
	if t.IsZero() && c.parked.Load() == nil && !c.closed.Load() {
		return nil // no deadline has ever been set
	}
	p, err := c.park()
	if err == nil {
		err = set(p.file, t)
	}
	return c.opError("set", err)
}

// opError is opError for what the runtime's poller said: its own error for a closed
// descriptor has no name.
func (c *Conn) opError(op string, err error) error {
	if err != nil && c.closed.Load() {
		err = net.ErrClosed
	}
	return opError(op, err)
}

// CloseRead shuts down the reading direction, for every holder of the connection.
func (c *Conn) CloseRead() error { return c.shutdown(unix.SHUT_RD) }

// CloseWrite shuts down the writing direction, for every holder of the
// connection: the peer reads end of stream.
func (c *Conn) CloseWrite() error { return c.shutdown(unix.SHUT_WR) }

// Shutdown shuts down both directions, for every holder of the connection.
func (c *Conn) Shutdown() error { return c.shutdown(unix.SHUT_RDWR) }

func (c *Conn) shutdown(how int) error {
	fd, ok := c.borrow()
	if !ok {
		return opError("close", net.ErrClosed)
	}
	defer c.giveBack()
	return opError("close", shutdown(fd, how))
}

// KeepUnbound does nothing: here whoever gets a connection can wait for it.
func (c *Conn) KeepUnbound() {}

// Inheritable returns a copy of the descriptor for a process that is started with it, in
// blocking mode, as programs expect their standard input to be. The mode is that of every
// holder of the connection: what the Conn has to wait for occupies a thread from then on.
// The caller closes the file.
func (c *Conn) Inheritable() (*os.File, error) {
	fd, ok := c.borrow()
	if !ok {
		return nil, opError("dup", net.ErrClosed)
	}
	defer c.giveBack()
	own, err := duplicateNumber(fd)
	if err == nil {
		if err = setNonblock(own, false); err != nil {
			closeFD(own)
		}
	}
	if err != nil {
		return nil, opError("dup", err)
	}
	return os.NewFile(uintptr(own), "connection"), nil
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.addr(unix.Getsockname) }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.addr(unix.Getpeername) }

func (c *Conn) addr(name func(int) (unix.Sockaddr, error)) net.Addr {
	addr := &net.UnixAddr{Net: "unix"}
	if fd, ok := c.borrow(); ok {
		defer c.giveBack()
		if sa, err := name(fd); err == nil {
			if sa, ok := sa.(*unix.SockaddrUnix); ok {
				addr.Name = sa.Name
			}
		}
	}
	return addr
}

func (r rawConn) Read(f func(uintptr) bool) error {
	return r.wait("raw-read", f, syscall.RawConn.Read)
}

func (r rawConn) Write(f func(uintptr) bool) error {
	return r.wait("raw-write", f, syscall.RawConn.Write)
}

func (r rawConn) wait(op string, f func(uintptr) bool, wait func(syscall.RawConn, func(uintptr) bool) error) error {
	done := false
	if r.c.parked.Load() == nil {
		if err := r.Control(func(fd uintptr) { done = f(fd) }); err != nil || done {
			return err
		}
	}
	p, err := r.c.park()
	if err != nil {
		return opError(op, err)
	}
	return r.c.opError(op, wait(p.raw, f))
}

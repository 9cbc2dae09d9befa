package sock

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/windows"
)

const (
	// endsWriter is false: a peer can't be kept from writing.
	endsWriter = false
	// modeDecides is false: there is no mode.
	modeDecides = false
)

// Conn is one end of a named pipe that is bound to nothing until it has to wait: then it
// becomes a file of the runtime's poller, which gets the deadlines that were set before.
//
//	raw ──an operation must wait──▶ parked
//	 └─────────────Close───────────────┴──▶ closed
//
// The file behind a pipe can be bound to one completion port in its life. So who is to pass
// a connection on leaves it raw: Try, SendNow, and a loop's set do.
type Conn struct {
	fd     int          // a handle
	uses   atomic.Int32 // borrowers of fd, and one more until Close
	closed atomic.Bool
	ended  atomic.Bool // Shutdown has come: what is left can be read
	parked atomic.Pointer[os.File]

	dropped runtime.Cleanup // zero unless CloseWhenDropped

	parking sync.Mutex // held while parked is made, and while a deadline is set
	writing sync.Mutex // held by one Write at a time, while it waits too: its bytes stay together

	out outgoing

	prefixing sync.Mutex // guards prefix; never held across a call that can block
	prefix    []byte     // what must go before anything else
	prefixed  atomic.Bool

	readBy, writeBy atomic.Pointer[time.Time] // the deadlines; nil for none

	unbound *unbound // nil unless KeepUnbound
}

// NewConn makes a Conn of a connected pipe, and owns it from then on.
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
	c.closeHandle()
}

// Close closes this process' handle: what waits on it returns net.ErrClosed. The peer can
// read what was written. A second Close returns net.ErrClosed.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return opError("close", net.ErrClosed)
	}
	if c.unbound != nil {
		unboundConn{c}.closing()
	}
	c.giveBack()
	return nil
}

// ShutdownClose is Close: a pipe ends when its last holder closes it.
func (c *Conn) ShutdownClose() error { return c.Close() }

// park has the runtime's poller wait for the handle; where it is kept unbound, there is no file.
func (c *Conn) park() (_ *os.File, err error) {
	if c.unbound != nil {
		return nil, nil
	}
	if f := c.parked.Load(); f != nil {
		return f, nil
	}
	fd, ok := c.borrow()
	if !ok {
		return nil, net.ErrClosed
	}
	defer c.giveBack()
	c.parking.Lock()
	defer c.parking.Unlock()
	if f := c.parked.Load(); f != nil {
		return f, nil
	}
	c.dropped.Stop() // the file has a cleanup of its own
	f := os.NewFile(uintptr(fd), "pipe connection")
	c.dropped = runtime.AddCleanup(f, serving.drop, fd)
	if by := c.readBy.Load(); by != nil {
		err = f.SetReadDeadline(*by)
	}
	if by := c.writeBy.Load(); by != nil {
		err = errors.Join(err, f.SetWriteDeadline(*by))
	}
	c.parked.Store(f)
	return f, err
}

// TryRead reads what is there, without waiting: syscall.EAGAIN when nothing is, io.EOF at
// the end of the stream.
func (c *Conn) TryRead(p []byte) (int, error) {
	fd, ok := c.borrow()
	if !ok {
		return 0, net.ErrClosed
	}
	defer c.giveBack()
	return c.receive(fd, p)
}

// receive is recv, and the end of the stream behind Shutdown.
func (c *Conn) receive(fd int, p []byte) (int, error) {
	n, err := recv(fd, p)
	if err == syscall.EAGAIN && c.ended.Load() {
		err = io.EOF
	}
	return n, err
}

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	if c.unbound != nil {
		n, err := unboundConn{c}.Read(b)
		return n, opError("read", err)
	}
	f := c.parked.Load()
	if f == nil {
		if err := c.CheckRead(); err != nil {
			return 0, err
		}
		n, err := c.TryRead(b)
		if err != syscall.EAGAIN {
			return n, opError("read", err)
		}
		if f, err = c.park(); err != nil {
			return 0, opError("read", err)
		}
	}
	n, err := f.Read(b)
	return n, c.opError("read", err)
}

// opError is opError for what the runtime's poller said.
func (c *Conn) opError(op string, err error) error {
	switch {
	case err != nil && c.closed.Load():
		err = net.ErrClosed
	case errors.Is(err, windows.ERROR_OPERATION_ABORTED) && c.ended.Load():
		err = io.EOF
	case op == "write":
		if gone := orEPIPE(err); gone == syscall.EPIPE {
			err = gone
		}
	}
	return opError(op, err)
}

// CheckRead returns what keeps a Read from reading, whatever there is to read: a deadline
// that has passed, or Close.
func (c *Conn) CheckRead() error {
	if c.closed.Load() {
		return opError("read", net.ErrClosed)
	}
	return checkDeadline("read", c.readBy.Load())
}

func checkDeadline(op string, by *time.Time) error {
	if by != nil && !time.Now().Before(*by) {
		return opError(op, os.ErrDeadlineExceeded)
	}
	return nil
}

// AwaitRead is false: there is no shorter way to wait than Read.
func (c *Conn) AwaitRead(time.Duration) bool { return false }

func (c *Conn) setDeadline(t time.Time, set func(deadlines, time.Time) error) error {
	if c.unbound != nil {
		return opError("set", set(unboundConn{c}, t))
	}
	c.parking.Lock()
	defer c.parking.Unlock()
	if c.closed.Load() {
		return opError("set", net.ErrClosed)
	}
	err := set(noted{c}, t)
	if f := c.parked.Load(); f != nil {
		err = set(f, t)
	}
	return c.opError("set", err)
}

// noted notes deadlines.
type noted struct{ *Conn }

func (n noted) SetDeadline(t time.Time) error {
	return errors.Join(n.SetReadDeadline(t), n.SetWriteDeadline(t))
}

func (n noted) SetReadDeadline(t time.Time) error {
	note(&n.readBy, t)
	return nil
}

func (n noted) SetWriteDeadline(t time.Time) error {
	note(&n.writeBy, t)
	return nil
}

func note(by *atomic.Pointer[time.Time], t time.Time) {
	if t.IsZero() {
		by.Store(nil)
		return
	}
	by.Store(&t)
}

var errNoHalves = errors.New("a named pipe has no directions to close one by one")

// CloseRead answers errors.ErrUnsupported: a pipe has no half end.
func (c *Conn) CloseRead() error {
	return opError("close", errors.Join(errNoHalves, errors.ErrUnsupported))
}

// CloseWrite answers errors.ErrUnsupported: a pipe has no half end.
func (c *Conn) CloseWrite() error { return c.CloseRead() }

// Shutdown ends reading here: behind what has arrived comes the end of the stream. The peer
// learns of it by Close, which must follow.
func (c *Conn) Shutdown() error {
	fd, ok := c.borrow()
	if !ok {
		return opError("close", net.ErrClosed)
	}
	defer c.giveBack()
	c.ended.Store(true)
	_ = windows.CancelIoEx(windows.Handle(fd), nil) // who waits looks again; there may be nobody
	return nil
}

// Inheritable answers errors.ErrUnsupported: connections are not inherited on this system.
func (c *Conn) Inheritable() (*os.File, error) { return nil, opError("dup", errors.ErrUnsupported) }

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// RemoteAddr implements net.Conn. Its name is empty.
func (c *Conn) RemoteAddr() net.Addr { return &net.UnixAddr{Net: "unix"} }

func (r rawConn) Read(f func(uintptr) bool) error {
	for {
		done := false
		if err := r.Control(func(fd uintptr) { done = f(fd) }); err != nil || done {
			return err
		}
		if r.c.unbound != nil {
			if err := (unboundConn{r.c}).awaitBytes(); err != nil && err != io.EOF {
				return opError("raw-read", err)
			}
			continue
		}
		file, err := r.c.park()
		if err == nil {
			_, err = file.Read(nil) // returns when there is something to read
		}
		if err != nil && err != io.EOF {
			return r.c.opError("raw-read", err)
		}
	}
}

// Write answers errors.ErrUnsupported where f has to wait: nothing tells when there is room.
func (r rawConn) Write(f func(uintptr) bool) error {
	done := false
	if err := r.Control(func(fd uintptr) { done = f(fd) }); err != nil || done {
		return err
	}
	return opError("raw-write", errors.ErrUnsupported)
}

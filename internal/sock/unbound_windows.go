package sock

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/windows"
)

// unbound is how a Conn waits that is to be bound by whoever gets it next: each wait is a
// call with an event of its own, and takes a thread.
type unbound struct {
	reading sync.Mutex // held by one Read at a time, while it waits too

	mu          sync.Mutex
	read, write time.Time     // deadlines; zero for none
	call        *call         // that a Read waits for; nil for none
	changed     chan struct{} // closed when a Write that waits must look again
}

// KeepUnbound keeps the Conn from the runtime's poller, whatever it waits for, so that the
// program which inherits it can bind it. Call it once, before anybody else has the Conn.
func (c *Conn) KeepUnbound() { c.unbound = &unbound{changed: make(chan struct{})} }

// SetDeadline implements deadlines, as the two others do.
func (c unboundConn) SetDeadline(t time.Time) error { return c.set(&t, &t) }

func (c unboundConn) SetReadDeadline(t time.Time) error { return c.set(&t, nil) }

func (c unboundConn) SetWriteDeadline(t time.Time) error { return c.set(nil, &t) }

// unboundConn is a Conn that has its unbound.
type unboundConn struct{ *Conn }

// set sets the deadlines that are not nil, for who waits too.
func (c unboundConn) set(read, write *time.Time) error {
	u := c.unbound
	u.mu.Lock()
	defer u.mu.Unlock()
	if c.closed.Load() {
		return net.ErrClosed
	}
	if read != nil {
		u.read = *read
	}
	if write != nil {
		u.write = *write
	}
	c.wake()
	return nil
}

// wake has those who wait look again. The caller holds mu.
func (c unboundConn) wake() {
	u := c.unbound
	if u.call != nil {
		_ = windows.CancelIoEx(windows.Handle(c.fd), &u.call.Overlapped) // fails where it has just ended
	}
	close(u.changed)
	u.changed = make(chan struct{})
}

// closing has those who wait find the Conn closed.
func (c unboundConn) closing() {
	c.unbound.mu.Lock()
	defer c.unbound.mu.Unlock()
	c.wake()
}

// due is what keeps a call from waiting: a deadline that has passed, or Close.
func (c unboundConn) due(by time.Time) error {
	switch {
	case c.closed.Load():
		return net.ErrClosed
	case !by.IsZero() && !time.Now().Before(by):
		return os.ErrDeadlineExceeded
	}
	return nil
}

// Read reads as soon as there is something.
func (c unboundConn) Read(b []byte) (int, error) {
	c.unbound.reading.Lock()
	defer c.unbound.reading.Unlock()
	for {
		n, err := c.TryRead(b)
		if err == syscall.EAGAIN {
			err = c.awaitBytes()
		} else if err != nil || n > 0 || len(b) == 0 {
			return n, err
		}
		if err != nil {
			return 0, err
		}
	}
}

// awaitBytes waits with a read of no bytes, until somebody wakes it at the latest.
func (c unboundConn) awaitBytes() error {
	fd, ok := c.borrow()
	if !ok {
		return net.ErrClosed
	}
	defer c.giveBack()
	u := c.unbound
	u.mu.Lock()
	if err := c.due(u.read); err != nil {
		u.mu.Unlock()
		return err
	}
	wait, err := newCall()
	if err != nil {
		u.mu.Unlock()
		return err
	}
	defer wait.close()
	patience := time.Duration(-1)
	if !u.read.IsZero() {
		patience = max(time.Until(u.read), 0) + time.Millisecond // of which less than one is none
	}
	err = windows.ReadFile(windows.Handle(fd), nil, nil, &wait.Overlapped)
	if !errors.Is(err, windows.ERROR_IO_PENDING) {
		u.mu.Unlock()
		return orEOF(err)
	}
	u.call = wait
	u.mu.Unlock()
	over := wait.over(patience)
	u.mu.Lock()
	u.call = nil
	u.mu.Unlock()
	if !over {
		_ = windows.CancelIoEx(windows.Handle(fd), &wait.Overlapped)
	}
	if _, err = wait.result(fd); errors.Is(err, windows.ERROR_OPERATION_ABORTED) {
		err = nil
	}
	return orEOF(err)
}

// goOn is goOn of a Conn that is not unbound.
func (c unboundConn) goOn(parts [][]byte, done int) (int, error) {
	for {
		n, err := c.TryWrite(behind(parts, done)...)
		done += n
		switch {
		case err == syscall.EAGAIN:
			err = c.awaitRoom()
		case err == nil && done == size(parts) && !c.prefixed.Load():
			return done, nil
		}
		if err != nil {
			return done, opError("write", err)
		}
	}
}

// behind are the parts without their first n bytes.
func behind(parts [][]byte, n int) (rest [][]byte) {
	for _, p := range parts {
		k := min(n, len(p))
		n, rest = n-k, append(rest, p[k:])
	}
	return rest
}

// awaitRoom waits until the write is over that goes on, or somebody wakes it.
func (c unboundConn) awaitRoom() error {
	u := c.unbound
	u.mu.Lock()
	by, changed := u.write, u.changed
	u.mu.Unlock()
	if err := c.due(by); err != nil {
		return err
	}
	c.out.mu.Lock()
	f := c.out.flight
	c.out.mu.Unlock()
	if f == nil {
		return nil
	}
	var late <-chan time.Time
	if !by.IsZero() {
		timer := time.NewTimer(time.Until(by))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-f.over:
	case <-changed:
	case <-late:
	}
	return nil
}

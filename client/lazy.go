package client

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// lazy is the beginning of a Conn whose broker has not been asked yet.
//
//	idle ──first Write: Hello and its bytes──▶ asked ──verdict──▶ settled
//	  └────Read, or a longer Write: Hello alone────────────────────▲
//
// idle and asked end in failed when there is no connection to be had.
type lazy struct {
	*dialing
	writesFirst bool
	written     chan struct{} // closed when no Read need wait for a Write any more

	mu     sync.Mutex // held by whoever asks or waits for the verdict
	asked  *exchange
	failed error
}

func newLazyConn(d *dialing, writesFirst bool) *Conn {
	c := &Conn{lazy: &lazy{dialing: d, writesFirst: writesFirst, written: make(chan struct{})}}
	c.link.path = d.Broker
	return c
}

// firstWrite sends Hello with p behind it when nothing has been sent yet. done says
// that p is on its way; else the connection is settled, and p is not written.
func (c *Conn) firstWrite(p []byte) (n int, done bool, err error) {
	z := c.lazy
	z.mu.Lock()
	defer z.mu.Unlock()
	if c.idle() && len(p) > 0 && len(p) <= MaxEarlyData {
		if err := c.ask(append([]byte(nil), p...)); err != nil {
			return 0, false, err
		}
		return len(p), true, nil
	}
	return 0, false, c.awaitLocked()
}

// ask sends Hello and the early bytes, which it keeps.
func (c *Conn) ask(early []byte) error {
	z := c.lazy
	defer z.unblock()
	if c.isClosed() {
		return errClosed("write")
	}
	x, err := z.dialing.ask(context.Background(), early, c.verdictBy())
	if err != nil {
		z.failed = err
		return err
	}
	z.asked = x
	c.sent.Store(true)
	c.link.use(x.conn, false)
	return nil
}

func (z *lazy) unblock() {
	select {
	case <-z.written:
	default:
		close(z.written)
	}
}

// verdictBy is when the verdict must be there.
func (c *Conn) verdictBy() time.Time {
	by := time.Now().Add(c.lazy.Timeout)
	if t, _, _ := c.link.deadline(); !t.IsZero() && t.Before(by) {
		return t
	}
	return by
}

func (c *Conn) isClosed() bool {
	_, _, closed := c.link.deadline()
	return closed
}

// idle reports whether nothing has been asked. The caller holds lazy.mu.
func (c *Conn) idle() bool {
	return c.about.Load() == nil && c.lazy.asked == nil && c.lazy.failed == nil
}

// awaitRead makes sure that there is a connection to read from.
func (c *Conn) awaitRead() error {
	if z := c.lazy; z.writesFirst {
		for waiting := true; waiting; {
			var err error
			if waiting, err = c.awaitWrite(); err != nil {
				return err
			}
		}
	}
	return c.await()
}

// awaitWrite waits for the first Write, or for the link to change.
func (c *Conn) awaitWrite() (again bool, err error) {
	by, changed, closed := c.link.deadline()
	if closed {
		return false, errClosed("read")
	}
	var timer <-chan time.Time
	if !by.IsZero() {
		t := time.NewTimer(time.Until(by))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-c.lazy.written:
		return false, nil
	case <-changed:
		return true, nil
	case <-timer:
		return false, &net.OpError{Op: "read", Net: "unix", Err: os.ErrDeadlineExceeded}
	}
}

// await returns when the connection is settled, or why there is none.
func (c *Conn) await() error {
	if c.about.Load() != nil {
		return nil
	}
	c.lazy.mu.Lock()
	defer c.lazy.mu.Unlock()
	return c.awaitLocked()
}

func (c *Conn) awaitLocked() error {
	z := c.lazy
	switch {
	case c.about.Load() != nil:
		return nil
	case z.failed != nil:
		return z.failed
	case c.isClosed():
		return errClosed("read")
	case z.asked == nil:
		if err := c.ask(nil); err != nil {
			return err
		}
		c.sent.Store(false)
	}
	x := z.asked
	o, err := x.conclude()
	if err != nil && z.again(err) && !c.isClosed() {
		o, err = z.run(context.Background(), x.early, x.deadline)
	}
	if err != nil {
		if c.isClosed() && !errors.Is(err, ErrOutcomeUnknown) {
			err = errClosed("read")
		}
		z.failed = err
		return err
	}
	if o.route == Reconnected && c.halfClosed.Load() {
		_ = o.conn.CloseWrite()
	}
	c.settle(o)
	return nil
}

// closeWriteEarly ends this client's direction behind the early data, before the
// verdict. done is false when the connection is settled.
func (c *Conn) closeWriteEarly() (done bool, err error) {
	c.lazy.mu.Lock()
	defer c.lazy.mu.Unlock()
	if x := c.lazy.asked; x != nil && c.about.Load() == nil && c.lazy.failed == nil {
		x.halfClosed.Store(true)
		return true, x.conn.CloseWrite()
	}
	return false, c.awaitLocked()
}

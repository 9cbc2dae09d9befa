package sock

import (
	"bytes"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/windows"
)

// outgoing is what a Conn sends without waiting. A write that finds no room is not taken
// back, because nobody could say how much of it has been read: it goes on by itself, as if
// the pipe held that much more, and until it is over there is no room for another.
type outgoing struct {
	mu     sync.Mutex
	flight *flight // that goes on; nil for none
}

// flight is a write that goes on by itself.
type flight struct {
	*call
	bytes []byte
	over  chan struct{} // closed when it is
}

// sendParts sends the parts as one, and at most as much as a pipe holds: syscall.EAGAIN when
// there is no room, syscall.EPIPE when the other end has gone.
func (c *Conn) sendParts(fd int, parts ...[]byte) (int, error) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if c.out.flight != nil {
		return 0, syscall.EAGAIN
	}
	all := bytes.Join(parts, nil)
	all = all[:min(len(all), room)]
	if len(all) == 0 {
		return 0, nil
	}
	w, err := newCall()
	if err != nil {
		return 0, err
	}
	err = windows.WriteFile(windows.Handle(fd), all, nil, &w.Overlapped)
	if errors.Is(err, windows.ERROR_IO_PENDING) {
		c.out.flight = &flight{w, all, make(chan struct{})}
		go c.land(c.out.flight)
		return len(all), nil
	}
	defer w.close()
	if err != nil {
		return 0, orEPIPE(err)
	}
	n, err := w.result(fd)
	return n, orEPIPE(err)
}

// land waits for the end of a write that goes on. What became of it is told by the next
// write, or the next read: it ends short where the other end does.
func (c *Conn) land(f *flight) {
	_, _ = f.result(c.fd)
	f.close()
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.flight = nil
	close(f.over)
}

// linger is how long Close lets a write go on.
const linger = 5 * time.Second

// closeHandle closes the handle, as soon as no write goes on.
func (c *Conn) closeHandle() {
	file := c.parked.Load()
	c.out.mu.Lock()
	f := c.out.flight
	c.out.mu.Unlock()
	if f == nil {
		c.closeNow(file)
		return
	}
	if file != nil {
		_ = file.SetDeadline(time.Unix(1, 0)) // who waits is not to wait for that
	}
	go func() {
		select {
		case <-f.over:
		case <-time.After(linger):
			_ = windows.CancelIoEx(windows.Handle(c.fd), &f.Overlapped) // fails where it has just ended
			<-f.over
		}
		c.closeNow(file)
	}()
}

func (c *Conn) closeNow(file *os.File) {
	if file != nil {
		_ = file.Close()
		return
	}
	closeFD(c.fd)
}

// Prefix has b, which is the Conn's from then on, sent ahead of whatever is sent next;
// nil takes it back. It comes before anybody else has the Conn.
func (c *Conn) Prefix(b []byte) {
	c.prefix = b
	c.prefixed.Store(len(b) > 0)
}

// Prefixed reports whether a prefix has not been sent whole.
func (c *Conn) Prefixed() bool { return c.prefixed.Load() }

// Flush sends the prefix now, if it has not been sent; what finds no room goes ahead of
// the next Write. It waits for nothing and nobody.
func (c *Conn) Flush() error {
	if !c.prefixed.Load() {
		return nil
	}
	_, err := c.TryWrite()
	if err == syscall.EAGAIN {
		return nil
	}
	return err
}

// TryWrite writes the parts, as one, without waiting: syscall.EAGAIN when there is no room.
// It returns how many bytes went, which may be fewer.
func (c *Conn) TryWrite(parts ...[]byte) (int, error) {
	fd, ok := c.borrow()
	if !ok {
		return 0, net.ErrClosed
	}
	defer c.giveBack()
	if !c.prefixed.Load() {
		return c.sendParts(fd, parts...)
	}
	c.prefixing.Lock()
	defer c.prefixing.Unlock()
	n, err := c.sendParts(fd, append([][]byte{c.prefix}, parts...)...)
	ahead := min(n, len(c.prefix))
	c.prefix = c.prefix[ahead:]
	c.prefixed.Store(len(c.prefix) > 0)
	return n - ahead, err
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) { return c.WriteParts(p) }

// WriteParts writes the parts one behind the other, at once where there is room.
func (c *Conn) WriteParts(parts ...[]byte) (done int, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.parked.Load() == nil {
		done, err = c.TryWrite(parts...)
		if err != nil && err != syscall.EAGAIN {
			return done, opError("write", err)
		}
		if err == nil && done == size(parts) {
			return done, nil
		}
	}
	f, err := c.park()
	if err != nil {
		return done, opError("write", err)
	}
	left := append([][]byte{c.takePrefix()}, parts...)
	skip := done
	for i, p := range left {
		if i > 0 {
			k := min(skip, len(p))
			skip, p = skip-k, p[k:]
		}
		if len(p) == 0 {
			continue
		}
		n, err := f.Write(p)
		if i > 0 {
			done += n
		}
		if err != nil {
			if i == 0 {
				c.putPrefix(p[n:])
			}
			return done, c.opError("write", err)
		}
	}
	return done, nil
}

func size(parts [][]byte) (n int) {
	for _, p := range parts {
		n += len(p)
	}
	return n
}

// takePrefix takes out what is left of the prefix: who waits for room must not hold its lock.
func (c *Conn) takePrefix() []byte {
	c.prefixing.Lock()
	defer c.prefixing.Unlock()
	prefix := c.prefix
	c.Prefix(nil)
	return prefix
}

func (c *Conn) putPrefix(rest []byte) {
	c.prefixing.Lock()
	defer c.prefixing.Unlock()
	c.Prefix(rest)
}

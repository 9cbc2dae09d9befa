package sock

import (
	"bytes"
	"errors"
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
func (c *Conn) sendParts(fd int, parts [][]byte) (int, error) {
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
		serving.end(c.fd, func() { _ = file.Close() })
		return
	}
	closeFD(c.fd)
}

// checkWrite returns what keeps a Write from writing, however much room there is: a deadline
// that has passed.
func (c *Conn) checkWrite() error { return checkDeadline("write", c.writeBy.Load()) }

// goOn writes what is left of parts behind their first done bytes, and waits for room. The
// caller holds writing.
func (c *Conn) goOn(f *os.File, parts [][]byte, done int) (int, error) {
	if c.unbound != nil {
		return unboundConn{c}.goOn(parts, done)
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

//go:build unix || windows

package sock

import (
	"net"
	"syscall"
)

// This file is all that a Conn sends. How bytes reach the system, and how a Write waits for
// room, is in write_unix.go and write_windows.go.

// maxParts is what one send takes: a prefix, and three more.
const maxParts = 4

// Prefix has b, which is the Conn's from then on, sent ahead of whatever is sent next;
// nil takes it back. It comes before anybody else has the Conn.
func (c *Conn) Prefix(b []byte) {
	c.prefix = b
	c.prefixed.Store(len(b) > 0)
}

// Prefixed reports whether a prefix has not been sent whole.
func (c *Conn) Prefixed() bool { return c.prefixed.Load() }

// Flush sends the prefix now, if it has not been sent; what finds no room goes ahead of
// the next Write. It waits for nothing and nobody, a Write that waits for room included:
// that has sent the prefix, or sends it itself.
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

// TryWrite writes the parts, at most three, as one, without waiting: syscall.EAGAIN when
// there is no room for a first byte. It returns how many bytes went, which may be fewer.
func (c *Conn) TryWrite(parts ...[]byte) (int, error) {
	fd, ok := c.borrow()
	if !ok {
		return 0, net.ErrClosed
	}
	defer c.giveBack()
	return c.send(fd, parts)
}

// send sends parts behind the prefix, if that has not been sent, and returns how many
// bytes of parts went. It doesn't wait.
func (c *Conn) send(fd int, parts [][]byte) (int, error) {
	if !c.prefixed.Load() {
		return c.sendParts(fd, parts)
	}
	c.prefixing.Lock()
	defer c.prefixing.Unlock()
	var all [maxParts][]byte
	all[0] = c.prefix
	n, err := c.sendParts(fd, all[:1+copy(all[1:], parts)])
	ahead := min(n, len(c.prefix))
	c.prefix = c.prefix[ahead:]
	c.prefixed.Store(len(c.prefix) > 0)
	return n - ahead, err
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) { return c.WriteParts(p) }

// WriteParts writes the parts, at most three, one behind the other, in one system call
// where the kernel has room.
func (c *Conn) WriteParts(parts ...[]byte) (done int, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.parked.Load() == nil {
		if err := c.checkWrite(); err != nil {
			return 0, err
		}
		done, err = c.TryWrite(parts...)
		if err != nil && err != syscall.EAGAIN {
			return done, opError("write", err)
		}
		if err == nil && done == size(parts) {
			return done, nil
		}
	}
	p, err := c.park()
	if err != nil {
		return done, opError("write", err)
	}
	return c.goOn(p, parts, done)
}

func size(parts [][]byte) (n int) {
	for _, p := range parts {
		n += len(p)
	}
	return n
}

package sock

import (
	"net"
	"syscall"
)

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
// It returns how many bytes went.
func (c *Conn) TryWrite(parts ...[]byte) (int, error) {
	fd, ok := c.borrow()
	if !ok {
		return 0, net.ErrClosed
	}
	defer c.giveBack()
	if !c.prefixed.Load() {
		return sendParts(fd, parts)
	}
	c.prefixing.Lock()
	defer c.prefixing.Unlock()
	n, err := sendParts(fd, append([][]byte{c.prefix}, parts...))
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

//go:build unix

package sock

import "golang.org/x/sys/unix"

// This file is all that a Conn sends. Everything goes out by send, with MSG_NOSIGNAL:
// a write through os.File would end the process when the peer is gone and the
// descriptor's number is that of standard output or standard error.

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
// that has sent the prefix.
func (c *Conn) Flush() error {
	if !c.prefixed.Load() {
		return nil
	}
	_, err := c.TryWrite()
	if err == unix.EAGAIN {
		return nil
	}
	return err
}

// send sends parts behind the prefix, if that has not been sent, and returns how many
// bytes of parts went. It doesn't wait.
func (c *Conn) send(fd int, parts [][]byte) (int, error) {
	if !c.prefixed.Load() {
		return sendParts(fd, parts)
	}
	c.prefixing.Lock()
	defer c.prefixing.Unlock()
	var all [maxParts][]byte
	all[0] = c.prefix
	n, err := sendParts(fd, all[:1+copy(all[1:], parts)])
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
		done, err = c.TryWrite(parts...)
		if err != nil && err != unix.EAGAIN {
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
	copy(c.out.parts[:], parts)
	c.out.pass(done)
	err = p.raw.Write(p.sendOut) // which has the poller see to the deadline first
	if err == nil {
		err = c.out.err
	}
	done = c.out.done
	c.out = outgoing{}
	return done, c.opError("write", err)
}

func size(parts [][]byte) (n int) {
	for _, p := range parts {
		n += len(p)
	}
	return n
}

// outgoing is a Write that goes on.
type outgoing struct {
	parts [maxParts - 1][]byte // what is left of them
	done  int
	err   error
}

// pass takes n bytes off what is left.
func (o *outgoing) pass(n int) {
	o.done += n
	for i, p := range o.parts {
		k := min(n, len(p))
		o.parts[i] = p[k:]
		n -= k
	}
}

// sendOut sends what is left of out, and is false while there is no room for more.
func (c *Conn) sendOut(fd uintptr) bool {
	for {
		n, err := c.send(int(fd), c.out.parts[:])
		c.out.pass(n)
		switch {
		case err == unix.EAGAIN:
			return false
		case err != nil:
			c.out.err = err
			return true
		case size(c.out.parts[:]) == 0:
			return true
		}
	}
}

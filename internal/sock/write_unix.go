//go:build unix

package sock

import "golang.org/x/sys/unix"

// sendParts sends the parts as one, by send with MSG_NOSIGNAL: a write through os.File would
// end the process when the peer is gone and the descriptor's number is that of standard
// output or standard error.
func (c *Conn) sendParts(fd int, parts [][]byte) (int, error) { return sendParts(fd, parts) }

// checkWrite is nil: a connection with a deadline is the poller's here, which knows it.
func (c *Conn) checkWrite() error { return nil }

// goOn writes what is left of parts behind their first done bytes, and waits for room. The
// caller holds writing.
func (c *Conn) goOn(p *parked, parts [][]byte, done int) (int, error) {
	copy(c.out.parts[:], parts)
	c.out.pass(done)
	err := p.raw.Write(p.sendOut) // which has the poller see to the deadline first
	if err == nil {
		err = c.out.err
	}
	done = c.out.done
	c.out = outgoing{}
	return done, c.opError("write", err)
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

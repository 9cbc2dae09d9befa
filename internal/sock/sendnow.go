//go:build !windows

package sock

import "net"

// SendNow sends data, with what is lent beside it, at once or not at all, and returns
// how many bytes went. It doesn't wait, and leaves a prefix where it is.
func (c *Conn) SendNow(data []byte, with ...Lender) (int, error) {
	fd, ok := c.borrow()
	if !ok {
		return 0, net.ErrClosed
	}
	defer c.giveBack()
	return send(fd, data, with)
}

// farEnd is nothing that has to be known here: a descriptor in flight is the system's.
type farEnd struct{}

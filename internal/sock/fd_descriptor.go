//go:build !windows

package sock

import (
	"net"
	"runtime"
)

// FD owns a descriptor that is made, received, or to be given away. One that is dropped
// without Close is closed when the garbage collector finds it, as an os.File is. Not
// safe for concurrent use.
type FD struct {
	n       int // -1 when it is no longer this one's
	dropped runtime.Cleanup
}

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

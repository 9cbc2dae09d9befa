package broker

import (
	"io"
	"net"

	"github.com/seed-7265657e/usher/internal/fdpass"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/unixconn"
	"github.com/seed-7265657e/usher/internal/wire"
)

// writeNow sends a frame, with fds beside it, at once or not at all, whatever
// mode the connection is in. It borrows fds. The few bytes fit an empty socket
// buffer; anything less is a failure.
func writeNow(c *unixconn.Conn, f *wire.Frame, fds ...int) error {
	msg, err := frame.Append(nil, f)
	if err != nil {
		return err
	}
	fd, ok := c.Borrow()
	if !ok {
		return net.ErrClosed
	}
	defer c.Return()
	n, err := fdpass.Send(fd, msg, fds...)
	if err == nil && n < len(msg) {
		err = io.ErrShortWrite
	}
	return err
}

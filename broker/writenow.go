package broker

import (
	"errors"
	"io"
	"net"

	"github.com/seed-7265657e/usher/internal/brokerpb"
	"github.com/seed-7265657e/usher/internal/fdpass"
	"github.com/seed-7265657e/usher/internal/frame"
)

// writeNow sends a frame, with fds beside it, at once or not at all, whatever
// mode the connection is in. It borrows fds. The few bytes fit an empty socket
// buffer; anything less is a failure.
func writeNow(c *net.UnixConn, f *brokerpb.Frame, fds ...int) error {
	msg, err := frame.Append(nil, f)
	if err != nil {
		return err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var n int
	ctlErr := raw.Control(func(fd uintptr) { n, err = fdpass.Send(int(fd), msg, fds...) })
	if err = errors.Join(ctlErr, err); err == nil && n < len(msg) {
		err = io.ErrShortWrite
	}
	return err
}

// Package splice joins two connections for as long as either has something to say. Where
// the system can (Linux), the bytes stay in the kernel.
//
// A leaf: it imports nothing of usher. It owns neither connection.
package splice

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// Conn is a stream socket whose directions end one by one.
type Conn interface {
	io.ReadWriteCloser
	syscall.Conn
	CloseRead() error
	CloseWrite() error
}

// Join copies both ways. The end of one direction is passed on as such (half-close), and a
// side that takes no more is told to the other. What is on the way is bounded by the
// sockets' buffers and one pipe a direction: a slow reader holds up his writer. Join returns
// when both directions have ended, or ctx has, and closes both connections, which nobody
// else closes before. It also does when a's peer has closed both of its own, where the system
// tells (Linux): nobody reads what b still may have to say.
//
// The error is that of ctx, or says what failed first other than a peer that has gone.
func Join(ctx context.Context, a, b Conn) error {
	err := join(ctx, a, b)
	_ = a.Close()
	_ = b.Close()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// endWay ends a direction, for the reason err, and returns nil where a peer has gone.
func endWay(to, from Conn, err error) error {
	_ = to.CloseWrite()
	_ = from.CloseRead() // of a Unix socket its writer is told
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ENOTCONN) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

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

	"github.com/seed-7265657e/usher/internal/errno"
)

// Conn is a stream socket whose directions end one by one.
type Conn interface {
	io.ReadWriteCloser
	syscall.Conn
	CloseRead() error
	CloseWrite() error
}

// Joint is two connections that are to be joined. Its methods are called one after the
// other: Try as often as anybody likes, then Join, once.
type Joint struct {
	a, b  Conn
	state state
}

// New owns neither; Join does.
func New(a, b Conn) *Joint { return &Joint{a: a, b: b} }

// Try moves what can be moved without waiting, a small message a direction, and passes an
// end on. It is false where more is to be done before one of both has something to read, or
// ends: a message is too large, or a reader has no room. That is Join's, as is everything
// where the system can't do it (see Join).
func (j *Joint) Try() bool { return j.state.try(j.a, j.b) }

// Open reports, after Try, of which of both there may still be something to read. When it is
// neither, whoever has them closes both, and Join has nothing to do.
func (j *Joint) Open() (a, b bool) { return j.state.open() }

// Join copies both ways. The end of one direction is passed on as such (half-close), and a
// side that takes no more is told to the other. What is on the way is bounded by the
// sockets' buffers and one pipe a direction: a slow reader holds up his writer. Join returns
// when both directions have ended, or ctx has, and closes both connections, which nobody
// else closes before. It also does when a's peer has closed both of its own, where the system
// tells (Linux): nobody reads what b still may have to say.
//
// The error is that of ctx, or says what failed first other than a peer that has gone.
func (j *Joint) Join(ctx context.Context) error {
	err := j.state.join(ctx, j.a, j.b)
	_ = j.a.Close()
	_ = j.b.Close()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// Join joins two connections from the beginning.
func Join(ctx context.Context, a, b Conn) error { return New(a, b).Join(ctx) }

// endWay ends a direction, for the reason err, and returns nil where a peer has gone.
func endWay(to, from Conn, err error) error {
	_ = to.CloseWrite()
	_ = from.CloseRead() // of a Unix socket its writer is told
	if errors.Is(err, errno.EPIPE) || errors.Is(err, errno.ECONNRESET) || errors.Is(err, errno.ENOTCONN) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

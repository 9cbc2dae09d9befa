package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/sock"
)

// What `usher connect` does with a connection: it copies, or gives it away.

// runRaw knows nothing of what it carries: the client that speaks is on another host.
func (c *connecting) runRaw(cmd *cobra.Command, args []string) error {
	path, err := c.localSocket()
	if err != nil {
		return err
	}
	toBroker := len(args) == 0
	if !toBroker {
		path = args[0]
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), adminTimeout)
	defer cancel()
	conn, err := endpoint.Dial(ctx, path)
	switch {
	case err == nil:
	case cmd.Context().Err() != nil:
		return cmd.Context().Err()
	case toBroker && (errors.Is(err, syscall.ENOENT) || errors.Is(err, errno.ECONNREFUSED)):
		return &NoBrokerError{Socket: path, Err: plain(err)}
	default:
		return err
	}
	defer func() { _ = conn.Close() }()
	return join(cmd.Context(), conn, cmd.InOrStdin(), cmd.OutOrStdout())
}

// pass sends conn's descriptor over stdout, as ssh's ProxyUseFdpass wants it: beside one
// byte, whose value does not count.
func pass(conn *client.Conn, stdout io.Writer) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	// The dialler's non-blocking mode is no business of who gets it.
	if err := sock.SetNonblock(raw, false); err != nil {
		return err
	}
	socket, ok := stdout.(syscall.Conn)
	if ok {
		_, err = sock.SendRaw(socket, []byte{0}, raw)
	}
	if !ok || errors.Is(err, errno.ENOTSOCK) {
		return errors.New("--fdpass: standard output is not a socket: the connection goes to a program that starts usher with one, such as ssh with ProxyUseFdpass=yes")
	}
	if err != nil {
		return fmt.Errorf("pass the connection: %w", err)
	}
	sock.AwaitReceipt(socket, receiptTime)
	return nil
}

// receiptTime is how long who gets a connection has to take it where it goes with its sender;
// ssh takes it at once, and closes.
const receiptTime = time.Second

// stream is what join copies to and from.
type stream interface {
	io.ReadWriteCloser
	CloseWrite() error
	syscall.Conn
}

// join copies both ways until both directions have ended, or conn's other end is closed. On
// Windows, where a connection has no half end, it ends too when stdin has ended and nobody
// reads stdout any more. Nothing can wake a read from stdin, so that copy may outlive join by
// the read it waits in.
func join(ctx context.Context, conn stream, stdin io.Reader, stdout io.Writer) error {
	release := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer release()
	joined, over := context.WithCancel(ctx)
	defer over()
	var unread atomic.Bool
	input := make(chan error, 1) // one fault of stdin, sent once conn has been told of the end
	go func() {
		from := &source{Reader: stdin}
		_, _ = io.Copy(conn, from) // a fault of conn shows in the other direction
		if sock.EndInput(joined, conn, stdout) {
			unread.Store(true)
			_ = conn.Close()
		}
		input <- from.err
	}()
	_, err := io.Copy(stdout, conn)
	if unread.Load() {
		err = nil
	} else if err == nil {
		if f, ok := stdout.(*os.File); ok {
			_ = sock.EndOutput(f)
		}
		closed := make(chan struct{})
		go func() { // ends with conn at the latest, which the caller closes
			defer close(closed)
			sock.AwaitHangup(conn)
		}()
		select {
		case err = <-input:
		case <-closed:
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	select {
	case inputErr := <-input:
		return errors.Join(err, inputErr)
	default:
		return err
	}
}

// source remembers why reading failed.
type source struct {
	io.Reader
	err error
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = fmt.Errorf("standard input: %w", err)
	}
	return n, err
}

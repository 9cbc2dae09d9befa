package usher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/launch"
)

// Dial connects to the daemon of this very executable, and of Key, Dir and EnvKey, and
// starts the tool's broker and the daemon where they do not run. The connection is the
// caller's, who closes it; it is a *client.Conn.
//
// ctx bounds the call; without a deadline it is 30 s, or 10 s more than StartTimeout. A daemon that does not come is a
// *client.RefusedError, whose Reason says how it ended, what it said last, and where its
// log is. Other errors are those of client.Dial.
func (t *Tool) Dial(ctx context.Context) (net.Conn, error) {
	options, err := t.options()
	if err != nil {
		return nil, err
	}
	c, err := client.Dial(ctx, options)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// DialWith is Dial with the first request, which goes along with the question where it is
// at most client.MaxEarlyData long. Its errors are those of client.DialWith: only
// client.ErrOutcomeUnknown says that the request may have been run.
func (t *Tool) DialWith(ctx context.Context, request []byte) (net.Conn, error) {
	options, err := t.options()
	if err != nil {
		return nil, err
	}
	c, err := client.DialWith(ctx, options, request)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// HTTP returns a DialContext for http.Transport: whatever host a URL names, the connection
// goes to the daemon.
func (t *Tool) HTTP() func(ctx context.Context, network, address string) (net.Conn, error) {
	options, err := t.options()
	if err != nil {
		return func(context.Context, string, string) (net.Conn, error) { return nil, err }
	}
	return client.HTTP(options)
}

// GRPC returns a dialer for grpc.WithContextDialer; use it with a "passthrough:///" target.
func (t *Tool) GRPC() func(ctx context.Context, target string) (net.Conn, error) {
	options, err := t.options()
	if err != nil {
		return func(context.Context, string) (net.Conn, error) { return nil, err }
	}
	return client.GRPC(options)
}

const (
	// defaultTimeout bounds a Dial whose context has no deadline.
	defaultTimeout = 30 * time.Second
	// startMargin is what the start of a broker, and the end of a daemon that is late, take
	// beside StartTimeout.
	startMargin = 10 * time.Second
)

func (t *Tool) options() (client.Options, error) {
	if role := os.Getenv(launch.RoleVariable); role != "" { // else broker would start broker, and so on
		return client.Options{}, fmt.Errorf("this process was started as the %s of %s, and Dials: call Main first of all in main", role, os.Getenv(launch.ToolVariable))
	}
	tool, err := t.complete()
	if err != nil {
		return client.Options{}, err
	}
	socket, err := tool.socket()
	if err != nil {
		return client.Options{}, err
	}
	return client.Options{
		Service: tool.Name, Version: tool.Version, OwnVersion: tool.Version,
		Broker: socket, Start: tool.startBroker,
		Timeout: max(defaultTimeout, tool.StartTimeout+startMargin),
		OwnBuild: &client.OwnBuild{
			Key: tool.Key, Dir: tool.Dir, Env: tool.environment(),
			IdleTimeout: tool.IdleTimeout, StartTimeout: tool.StartTimeout,
		},
	}, nil
}

// Stdio joins standard input and output to the daemon, until both directions have ended: a
// server that its hosts start once a session becomes one process for all of them. The end
// of standard input is passed on, and the daemon's answer to it still comes.
//
// When ctx ends the connection is closed, and Stdio returns ctx's error. A read of
// standard input that is under way by then ends with the process.
//
// A daemon that is killed ends the connection as one that closes it, unless it had left
// something unread: then Stdio returns nil. How a daemon ended is an event (usher events).
func (t *Tool) Stdio(ctx context.Context) error { return t.join(ctx, os.Stdin, os.Stdout) }

// halfCloser is a connection whose directions end one by one.
type halfCloser interface{ CloseWrite() error }

func (t *Tool) join(ctx context.Context, in io.Reader, out io.Writer) error {
	conn, err := t.Dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	go func() { // until in ends, or the connection does and in says something more
		_, _ = io.Copy(conn, in)
		_ = conn.(halfCloser).CloseWrite()
	}()
	_, err = io.Copy(out, conn)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil || errors.Is(err, net.ErrClosed):
		return nil
	}
	var output *os.PathError // a connection's errors are others
	if errors.As(err, &output) {
		return fmt.Errorf("standard output: %w", err)
	}
	return fmt.Errorf("the daemon's end of %s: %w", t.Name, err)
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/sock"
)

// connecting is `usher connect`.
type connecting struct {
	*app
	noHandoff bool
	verbose   bool
	fdpass    bool
}

func connectCommand(a *app) *cobra.Command {
	c := &connecting{app: a}
	cmd := &cobra.Command{
		Use:   "connect SERVICE[@VERSION]",
		Short: "Connect standard input and output to a service",
		Long: "Connect standard input and output to a service, until both directions have ended, or the\n" +
			"service has closed the connection. Without a version it is the highest one that has a\n" +
			"live backend. Made to be a proxy command: nothing but the service's bytes goes to standard\n" +
			"output, and a hang-up ends it at once and in silence.",
		Example: "  usher connect notes@1.2.0\n" +
			"  printf 'GET /notes HTTP/1.0\\r\\n\\r\\n' | usher connect -v notes\n" +
			"  ssh -o ProxyCommand='usher connect sshd' -o ProxyUseFdpass=no any\n" +
			"  ssh -o ProxyCommand='usher connect --fdpass sshd' -o ProxyUseFdpass=yes any",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeLiveServices(a),
		RunE:              c.run,
	}
	cmd.Flags().BoolVar(&c.noHandoff, "no-handoff", false, "only ask the broker where the backend is, and connect there")
	cmd.Flags().BoolVarP(&c.verbose, "verbose", "v", false, "say on standard error how the connection came about")
	cmd.Flags().BoolVar(&c.fdpass, "fdpass", false,
		"pass the connection itself over standard output, a Unix socket, and end (ssh's ProxyUseFdpass)")
	return cmd
}

func (c *connecting) run(cmd *cobra.Command, args []string) error {
	// ssh ends its proxy commands so. There is nothing to tidy up, nor to say.
	signal.Reset(syscall.SIGHUP)
	ctx := cmd.Context()
	conn, err := c.dial(cmd, args[0], client.Options{NoHandoff: c.noHandoff, NoReadAhead: c.fdpass})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if c.verbose {
		service, _, _ := strings.Cut(args[0], "@")
		fmt.Fprintf(cmd.ErrOrStderr(), "usher: %s to %s@%s, connection %d, pipe %s\n",
			strings.ReplaceAll(string(conn.Route()), "_", " "), service, conn.BackendVersion(), conn.ID(), conn.Endpoint())
	}
	if c.fdpass {
		return pass(conn, cmd.OutOrStdout())
	}
	return join(ctx, conn, cmd.InOrStdin(), cmd.OutOrStdout())
}

// dial connects to the service that arg names, SERVICE[@VERSION]; opts say the rest.
func (a *app) dial(cmd *cobra.Command, arg string, opts client.Options) (*client.Conn, error) {
	service, version, err := parseService(arg)
	if err != nil {
		return nil, usageError(cmd, err)
	}
	ctx := cmd.Context()
	socket, err := a.socketPath()
	if err != nil {
		return nil, err
	}
	if version == "" {
		s, err := a.status(ctx)
		if err != nil {
			return nil, err
		}
		if version, err = s.newest(service); err != nil {
			return nil, err
		}
	}
	opts.Service, opts.Version, opts.Broker = service, version, socket
	return client.Dial(ctx, opts)
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
	if !ok || errors.Is(err, syscall.ENOTSOCK) {
		return errors.New("--fdpass: standard output is not a socket: the connection goes to a program that starts usher with one, such as ssh with ProxyUseFdpass=yes")
	}
	if err != nil {
		return fmt.Errorf("pass the connection: %w", err)
	}
	return nil
}

// stream is what join copies to and from.
type stream interface {
	io.ReadWriteCloser
	CloseWrite() error
	syscall.Conn
}

// join copies both ways until both directions have ended, or conn's other end is closed.
// Nothing can wake a read from stdin, so that copy may outlive join by the read it waits
// in.
func join(ctx context.Context, conn stream, stdin io.Reader, stdout io.Writer) error {
	release := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer release()
	input := make(chan error, 1) // one fault of stdin, sent once conn has been told of the end
	go func() {
		from := &source{Reader: stdin}
		_, _ = io.Copy(conn, from) // a fault of conn shows in the other direction
		_ = conn.CloseWrite()
		input <- from.err
	}()
	_, err := io.Copy(stdout, conn)
	if err == nil {
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

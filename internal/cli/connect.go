package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/client"
)

// connecting is `usher connect`.
type connecting struct {
	*app
	noHandoff bool
	verbose   bool
}

func connectCommand(a *app) *cobra.Command {
	c := &connecting{app: a}
	cmd := &cobra.Command{
		Use:   "connect SERVICE[@VERSION]",
		Short: "Connect standard input and output to a service",
		Long: "Connect standard input and output to a service, until the service ends the connection.\n" +
			"Without a version it is the highest one that has a live backend.",
		Example: "  usher connect notes@1.2.0\n" +
			"  printf 'GET /notes HTTP/1.0\\r\\n\\r\\n' | usher connect -v notes",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeLiveServices(a),
		RunE:              c.run,
	}
	cmd.Flags().BoolVar(&c.noHandoff, "no-handoff", false, "only ask the broker where the backend is, and connect there")
	cmd.Flags().BoolVarP(&c.verbose, "verbose", "v", false, "say on standard error how the connection came about")
	return cmd
}

func (c *connecting) run(cmd *cobra.Command, args []string) error {
	service, version, err := parseService(args[0])
	if err != nil {
		return usageError(cmd, err)
	}
	ctx := cmd.Context()
	socket, err := c.socketPath()
	if err != nil {
		return err
	}
	if version == "" {
		s, err := c.status(ctx)
		if err != nil {
			return err
		}
		if version, err = s.newest(service); err != nil {
			return err
		}
	}
	conn, err := client.Dial(ctx, client.Options{
		Service: service, Version: version, Broker: socket, NoHandoff: c.noHandoff,
	})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if c.verbose {
		fmt.Fprintf(cmd.ErrOrStderr(), "usher: %s to %s@%s, connection %d, pipe %s\n",
			strings.ReplaceAll(string(conn.Route()), "_", " "), service, conn.BackendVersion(), conn.ID(), conn.Endpoint())
	}
	return join(ctx, conn, cmd.InOrStdin(), cmd.OutOrStdout())
}

// join copies both ways until conn ends. Nothing can wake a read from stdin, so
// that copy may outlive join by the read it waits in.
func join(ctx context.Context, conn *client.Conn, stdin io.Reader, stdout io.Writer) error {
	release := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer release()
	input := make(chan error, 1) // one fault of stdin, sent before conn is told
	go func() {
		from := &source{Reader: stdin}
		_, _ = io.Copy(conn, from) // a fault of conn shows in the other direction
		input <- from.err
		_ = conn.CloseWrite()
	}()
	_, err := io.Copy(stdout, conn)
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

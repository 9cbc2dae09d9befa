package cli

import (
	"errors"
	"fmt"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/launch"
)

// connecting is `usher connect`.
type connecting struct {
	*app
	noHandoff bool
	verbose   bool
	fdpass    bool
	raw       bool
}

func connectCommand(a *app) *cobra.Command {
	c := &connecting{app: a}
	cmd := &cobra.Command{
		Use:   "connect SERVICE[@VERSION]",
		Short: "Connect standard input and output to a service",
		Long: "Connect standard input and output to a service, until both directions have ended, or the\n" +
			"service has closed the connection. Without a version it is the highest one that has a\n" +
			"live backend. Made to be a proxy command: nothing but the service's bytes goes to standard\n" +
			"output, and a hang-up ends it at once and in silence. On Windows a connection has no half end:\n" +
			"the service is not told of the end of standard input, and behind that connect ends when the\n" +
			"service closes the connection, or when nobody reads standard output, a pipe, any more.",
		Example: "  usher connect notes@1.2.0\n" +
			"  printf 'GET /notes HTTP/1.0\\r\\n\\r\\n' | usher connect -v notes\n" +
			"  ssh -o ProxyCommand='usher connect sshd' -o ProxyUseFdpass=no any\n" +
			"  ssh -o ProxyCommand='usher connect --fdpass sshd' -o ProxyUseFdpass=yes any",
		Args:              c.judge,
		ValidArgsFunction: completeLiveServices(a),
		RunE:              c.run,
	}
	cmd.Flags().BoolVar(&c.raw, "raw", false,
		"connect to the broker itself, or to the backend's pipe that is the argument: for usher on another host (--broker ssh://…)")
	cmd.Flags().BoolVar(&c.noHandoff, "no-handoff", false, "only ask the broker where the backend is, and connect there")
	cmd.Flags().BoolVarP(&c.verbose, "verbose", "v", false, "say on standard error how the connection came about")
	cmd.Flags().BoolVar(&c.fdpass, "fdpass", false,
		"pass the connection itself over standard output, a Unix socket, and end (ssh's ProxyUseFdpass)")
	return cmd
}

func (c *connecting) run(cmd *cobra.Command, args []string) error {
	// ssh ends its proxy commands so. There is nothing to tidy up, nor to say.
	signal.Reset(launch.Hangup)
	ctx := cmd.Context()
	if c.raw {
		return c.runRaw(cmd, args)
	}
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

// judge wants a service, or with --raw at most a pipe.
func (c *connecting) judge(cmd *cobra.Command, args []string) error {
	if c.raw {
		if c.fdpass || c.noHandoff || c.verbose {
			return errors.New("--raw goes with no other flag of connect: it knows nothing of what it carries")
		}
		return cobra.MaximumNArgs(1)(cmd, args)
	}
	return cobra.ExactArgs(1)(cmd, args)
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

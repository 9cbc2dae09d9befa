package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/bench"
	"github.com/seed-7265657e/usher/internal/demo"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/launch"
	"github.com/seed-7265657e/usher/internal/remote"
)

// verbs is every command of usher but those of relayed and cobra's own: help and
// completion.
var verbs = []func(*app) *cobra.Command{
	serveCommand,
	statusCommand,
	psCommand,
	logsCommand,
	eventsCommand,
	connectCommand,
	runCommand,
	serviceCommand,
	unitCommand,
	upgradeCommand,
	backendHealthCommand,
	diagnoseCommand,
	shutdownCommand,
	versionCommand,
	demoCommand,
	demoRoleCommand,
	benchCommand,
	benchRoleCommand,
}

// app is what the verbs of one run share.
type app struct {
	socket socketValue // --broker or --socket; empty when not given
}

// socketPath is the broker's socket, or the URL of one on another host: --broker or
// --socket, else the environment's, else the user's shared broker.
func (a *app) socketPath() (string, error) {
	return endpoint.BrokerSocket(string(a.socket))
}

// localSocket is socketPath for those who serve there, or are the other host's.
func (a *app) localSocket() (string, error) {
	if remote.IsURL(string(a.socket)) {
		return "", fmt.Errorf("%s is on another host: name a socket of this one", a.socket)
	}
	return a.socketPath()
}

// New returns the root command with every verb, on the streams that it is given.
func New(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	a := new(app)
	root := &cobra.Command{
		Use:   "usher",
		Short: "Hands local connections over to the right backend",
		Long: "usher is a local connection broker: a client says which service and version it wants\n" +
			"and ends up talking, over that same connection, to the backend that serves it.",
		Version:       build().Version,
		SilenceUsage:  true,
		SilenceErrors: true, // Run prints them
	}
	root.SetVersionTemplate("usher {{.Version}}\n")
	root.PersistentFlags().Var(&a.socket, "socket",
		"the broker's socket (default $"+endpoint.SocketVariable+", else this user's shared broker)")
	root.PersistentFlags().Var(&a.socket, "broker",
		"the same, or a broker on another host: ssh://[USER@]HOST[:PORT][/SOCKET][?usher=PROGRAM]")
	for _, verb := range verbs {
		root.AddCommand(verb(a))
	}
	root.AddCommand(relayCommands(a)...)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.InitDefaultCompletionCmd() // keeps the streams it finds
	root.SetFlagErrorFunc(usageError)
	settle(root)
	return root
}

// Main runs usher with this process' arguments and streams and returns its exit
// code. The first signal of those that ask a process to end, a closing terminal's
// included, ends the verb's context; the second has its default effect.
func Main() int {
	demo.ToolMain()  // in a process that usher demo has had started
	bench.ToolMain() // and in one of usher bench cold
	ctx, stop := signal.NotifyContext(context.Background(), launch.Endings()...)
	defer stop()
	context.AfterFunc(ctx, stop)
	return Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// Run runs usher once and returns its exit code: 0 done, 1 failed, 2 wrong usage,
// 130 interrupted, or what the broker's reply says. Errors go to stderr.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := New(stdin, stdout, stderr)
	root.SetArgs(args)
	return report(stderr, root.ExecuteContext(ctx))
}

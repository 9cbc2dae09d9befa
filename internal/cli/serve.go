package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/eventlog"
	"github.com/seed-7265657e/usher/internal/launch"
	"github.com/seed-7265657e/usher/internal/winservice"
)

// serving is `usher serve`.
type serving struct {
	*app
	instance      string
	definitionDir string
	backends      backendsValue
	drainTimeout  durationValue
	backendWait   durationValue
	ackDeadline   durationValue
	helloTimeout  durationValue
	idleExit      durationValue
	helloRate     int
	events        string
	logLevel      string
	logFormat     string
}

func serveCommand(a *app) *cobra.Command {
	s := &serving{app: a}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the broker in the foreground",
		Long: "Run the broker in the foreground. It logs to standard error: text on a terminal, JSON otherwise.\n" +
			"SIGINT, SIGTERM or SIGHUP gives connections under way their verdict and ends it; a second one ends it at once.\n" +
			"Under a service manager it takes the socket that it is passed (LISTEN_FDS), and says how it fares\n" +
			"(NOTIFY_SOCKET): usher unit writes the units.",
		Example: "  usher serve\n" +
			"  usher serve --instance explicit:ci --drain-timeout 30s\n" +
			"  usher serve --backend notes@1.2.0=/run/user/1000/notes.sock",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&s.instance, "instance", endpoint.Shared().String(), "which broker this is: shared, private:SERVICE or explicit:NAME; names its socket too")
	addDefinitionDir(f, &s.definitionDir)
	f.Var(&s.backends, "backend", "a v1 backend with a pipe of its own, as SERVICE@VERSION=PIPE[,handoff=ENDPOINT]; may be repeated")
	f.Var(&s.drainTimeout, "drain-timeout", "how long connections under way may take at the end (default 10s)")
	f.Var(&s.backendWait, "backend-wait", "how long a client waits for a backend that is expected: after the start, and after one has left (default 2s)")
	f.Var(&s.ackDeadline, "ack-deadline", "how long a backend has to acknowledge a handoff (default 5s)")
	f.Var(&s.helloTimeout, "hello-timeout", "how long a client has for its Hello (default $"+endpoint.HelloTimeoutVariable+", else 30s)")
	f.Var(&s.idleExit, "idle-exit", "end after so long without a backend and a client (default: never)")
	f.IntVar(&s.helloRate, "hello-rate", broker.DefaultHelloRate, "how many Hellos one client process may send in a second")
	f.StringVar(&s.events, "events", "", "where to keep events, a path, or off (default: beside the logs of what it starts)")
	f.StringVar(&s.logLevel, "log-level", "info", "least level to log: debug, info, warn or error")
	f.StringVar(&s.logFormat, "log-format", logAuto, "log format: auto, text or json")
	return cmd
}

func (s *serving) run(cmd *cobra.Command) error {
	log, endLog, err := startLog(cmd.ErrOrStderr(), s.logLevel, s.logFormat)
	if err != nil {
		return usageError(cmd, err)
	}
	defer endLog()
	if s.helloRate < 1 {
		return usageError(cmd, fmt.Errorf("--hello-rate is %d: want 1 or more", s.helloRate))
	}
	instance, err := endpoint.ParseInstance(s.instance)
	if err != nil {
		return usageError(cmd, err)
	}
	opts := broker.Options{
		Instance:     instance.String(),
		Static:       s.backends,
		HelloTimeout: time.Duration(s.helloTimeout),
		AckDeadline:  time.Duration(s.ackDeadline),
		DrainTimeout: time.Duration(s.drainTimeout),
		BackendWait:  time.Duration(s.backendWait),
		HelloRate:    s.helloRate,
		IdleExit:     time.Duration(s.idleExit),
		Logger:       log,
	}
	if opts.Socket, err = s.bindPath(instance, cmd.Flags().Changed("instance")); err != nil {
		return err
	}
	if opts.HelloTimeout == 0 {
		opts.HelloTimeout = endpoint.Milliseconds(endpoint.HelloTimeoutVariable, 0)
	}
	if s.definitionDir != "" {
		if opts.DefinitionDir, err = filepath.Abs(s.definitionDir); err != nil {
			return err
		}
		opts.DefinitionSource = endpoint.SourceFlag
	}
	if opts.Events, err = s.eventsPath(instance); err != nil {
		log.Warn("events are not kept: say with --events where", "error", err)
	}
	if opts.Successor, err = successor(cmd.ErrOrStderr()); err != nil {
		return err
	}
	if opts.Predecessor, err = broker.TakePredecessor(); err != nil {
		return err
	}
	// A reader of the log that goes away must not take the broker with it, which
	// is what Go does by default for standard output and error.
	signal.Ignore(launch.BrokenPipe)
	m, err := newManaged(log)
	if err != nil {
		return err
	}
	defer m.close()
	b, err := m.listen(opts)
	if err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		log.Warn("running as root: only root's clients and backends are served; run it as the user who needs it")
	}
	return winservice.Serve(cmd.Context(), func(ctx context.Context) error { return serveUpgradable(ctx, b) })
}

// successor is this very command, of the file that is at its path by then. A service of Windows
// has none: its manager would take it for ended.
func successor(stderr io.Writer) (s broker.Successor, err error) {
	if winservice.Managed() {
		return s, nil
	}
	s.Args, s.Env = os.Args[1:], append([]string(nil), os.Environ()...)
	s.Env = slices.DeleteFunc(s.Env, func(entry string) bool { // what is this process' alone
		return strings.HasPrefix(entry, "LISTEN_") || strings.HasPrefix(entry, "WATCHDOG_PID=") || strings.HasPrefix(entry, broker.HandoverVariable+"=")
	})
	if file, ok := stderr.(*os.File); ok {
		s.Output = file
	}
	s.Path, err = os.Executable()
	return s, err
}

// serveUpgradable serves, and upgrades at SIGUSR2. Whether an upgrade has succeeded is in
// the log.
func serveUpgradable(ctx context.Context, b *broker.Broker) error {
	asked := make(chan os.Signal, 1)
	launch.NotifyUpgrade(asked)
	defer signal.Stop(asked)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // until Serve returns
		for {
			select {
			case <-asked:
				_, _ = b.Upgrade(ctx)
			case <-ctx.Done():
				return
			}
		}
	}()
	return b.Serve(ctx)
}

// eventsPath is --events, else that of the instance; "" for none.
func (s *serving) eventsPath(instance endpoint.Instance) (string, error) {
	switch s.events {
	case "":
		return eventlog.Path(instance.String())
	case "off":
		return "", nil
	}
	return filepath.Abs(s.events)
}

// bindPath is --socket, else the path of an instance given by --instance, else
// where clients look.
func (a *app) bindPath(instance endpoint.Instance, named bool) (string, error) {
	if named && a.socket == "" {
		return instance.SocketPath()
	}
	return a.localSocket()
}

package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/bench/cfloor"
	"github.com/seed-7265657e/usher/internal/bench"
)

// benching is what the verbs of `usher bench` share.
type benching struct {
	opts   bench.Options
	asJSON bool
}

func benchCommand(*app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure handoffs on this machine, with processes of their own",
		Long: "Measure what a handoff costs against reconnecting and against the same exchange in C. Every\n" +
			"process is started for it in a private directory, and nothing is left behind.",
	}
	cmd.AddCommand(benchHandoffCommand(), benchLoadCommand(), benchTokensCommand(), benchMemoryCommand(), benchDataCommand(),
		benchProcessCommand(), benchColdCommand(), benchIdleCommand())
	return cmd
}

// verb makes a verb that measures with run and shows what it returns.
func (b *benching) verb(use, short string, run func(cmd *cobra.Command) (any, func(io.Writer) error, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if b.opts.Program, err = os.Executable(); err != nil {
				return err
			}
			clearLine := func() {}
			if stderr := cmd.ErrOrStderr(); isTerminal(stderr) {
				b.opts.Progress = func(what string) { _, _ = fmt.Fprintf(stderr, "\r\x1b[K%s …", what) }
				clearLine = func() { _, _ = io.WriteString(stderr, "\r\x1b[K") }
			}
			result, text, err := run(cmd)
			clearLine()
			switch {
			case err != nil:
				return err
			case b.asJSON:
				return printJSON(cmd.OutOrStdout(), result)
			}
			return text(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&b.opts.Quick, "quick", false, "far fewer samples: shows that it works, not how fast")
	addJSON(cmd, &b.asJSON)
	return cmd
}

func benchHandoffCommand() *cobra.Command {
	b := &benching{}
	var check bool
	var report *bench.Report
	cmd := b.verb("handoff", "Handed over against reconnect and the C floor, and everything else", func(cmd *cobra.Command) (any, func(io.Writer) error, error) {
		var err error
		if report, err = bench.Handoff(cmd.Context(), b.opts); err != nil {
			return nil, nil, err
		}
		return report, report.Write, nil
	})
	cmd.Long = "Measure the latency of a handoff whose first request goes along with Hello against a reconnect\n" +
		"and against the same exchange in C, in rounds that alternate; then other ways, the cost in\n" +
		"processor time, load, data, tokens and memory. It takes about two minutes."
	f := cmd.Flags()
	f.IntVar(&b.opts.Restarts, "restarts", bench.DefaultRestarts, "how often all processes start anew")
	f.IntVar(&b.opts.Pairs, "pairs", bench.DefaultPairs, "rounds of each start")
	addFloor(cmd, &b.opts.Floor)
	f.BoolVar(&check, "check", false, "exit 1 when a goal is missed")
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := run(cmd, args)
		if err == nil && check && !report.OK {
			err = exitWith(exitFailed)
		}
		return err
	}
	return cmd
}

// addFloor adds --floor, which says what the C floor's claims are.
func addFloor(cmd *cobra.Command, floor *cfloor.Claims) {
	choices := []string{string(cfloor.Page), string(cfloor.Descriptors)}
	cmd.Flags().StringVar((*string)(floor), "floor", string(cfloor.Page), "claims of the C floor: "+strings.Join(choices, " or "))
	_ = cmd.RegisterFlagCompletionFunc("floor", cobra.FixedCompletions(choices, cobra.ShellCompDirectiveNoFileComp)) // fails for an unknown flag
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if !slices.Contains(choices, string(*floor)) {
			return usageError(cmd, fmt.Errorf("--floor is %q: want %s", *floor, strings.Join(choices, " or ")))
		}
		return nil
	}
}

func benchLoadCommand() *cobra.Command {
	b := &benching{}
	clients := 8
	cmd := b.verb("load", "Handoffs per second of clients in a closed loop", func(cmd *cobra.Command) (any, func(io.Writer) error, error) {
		if clients < 1 || clients > bench.MaxClients {
			return nil, nil, usageError(cmd, fmt.Errorf("--clients is %d: want 1 to %d", clients, bench.MaxClients))
		}
		f, err := bench.Load(cmd.Context(), b.opts, clients)
		return f, func(w io.Writer) error { return f.Write(w) }, err
	})
	cmd.Flags().IntVar(&clients, "clients", clients, "how many clients ask at once")
	addFloor(cmd, &b.opts.Floor)
	return cmd
}

func benchTokensCommand() *cobra.Command {
	b := &benching{}
	return b.verb("tokens", "Issue and consume a token with many others pending", func(*cobra.Command) (any, func(io.Writer) error, error) {
		f := bench.Tokens(b.opts)
		return f, f.Write, nil
	})
}

func benchMemoryCommand() *cobra.Command {
	b := &benching{}
	connections := 10_000
	cmd := b.verb("memory", "Memory of the broker with live handed-over connections", func(cmd *cobra.Command) (any, func(io.Writer) error, error) {
		if connections < 1 || connections > bench.MaxConnections {
			return nil, nil, usageError(cmd, fmt.Errorf("--connections is %d: want 1 to %d", connections, bench.MaxConnections))
		}
		f, err := bench.Memory(cmd.Context(), b.opts, connections)
		return f, func(w io.Writer) error { return f.Write(w) }, err
	})
	cmd.Flags().IntVar(&connections, "connections", connections, "how many connections live")
	return cmd
}

func benchDataCommand() *cobra.Command {
	b := &benching{}
	return b.verb("data", "A handed-over connection against one dialled directly", func(cmd *cobra.Command) (any, func(io.Writer) error, error) {
		f, err := bench.Data(cmd.Context(), b.opts)
		return f, f.Write, err
	})
}

func benchProcessCommand() *cobra.Command {
	b := &benching{}
	cmd := b.verb("process", "A short program through the SDK against one that dials directly", func(cmd *cobra.Command) (any, func(io.Writer) error, error) {
		f, err := bench.Process(cmd.Context(), b.opts)
		return f, f.Write, err
	})
	cmd.Long = "Measure two programs that ask once, print the answer and end: one through the SDK, the other\n" +
		"with net.Dial to the same backend. Both are built from usher's source tree, where this has to be\n" +
		"run, and run whole, in turns. It needs a Go toolchain."
	return cmd
}

func benchColdCommand() *cobra.Command {
	b := &benching{}
	o := bench.ColdOptions{Clients: bench.DefaultColdClients, Rounds: bench.DefaultColdRounds, Startup: bench.DefaultColdStartup}
	cmd := b.verb("cold", "First calls of a one-binary tool, which start its broker and its daemon", func(cmd *cobra.Command) (any, func(io.Writer) error, error) {
		switch {
		case o.Clients < 1 || o.Clients > bench.MaxClients:
			return nil, nil, usageError(cmd, fmt.Errorf("--clients is %d: want 1 to %d", o.Clients, bench.MaxClients))
		case o.Rounds < 1 || o.Rounds > bench.MaxRounds:
			return nil, nil, usageError(cmd, fmt.Errorf("--rounds is %d: want 1 to %d", o.Rounds, bench.MaxRounds))
		}
		f, err := bench.Cold(cmd.Context(), b.opts, o)
		return f, func(w io.Writer) error { return f.Write(w) }, err
	})
	cmd.Long = "Measure first calls of a one-binary tool that find neither broker nor daemon, each in a\n" +
		"directory of its own: clients that run already and call at once, against one; and one client from\n" +
		"before its start until its answer, against a daemon from before its start until it listens. The\n" +
		"tool is usher itself, and its daemon echoes. It is measured twice: as one that works for the time\n" +
		"of --startup before it listens, and as one that listens at once."
	f := cmd.Flags()
	f.IntVar(&o.Clients, "clients", o.Clients, "how many clients call at once")
	f.IntVar(&o.Rounds, "rounds", o.Rounds, "how often everything is measured")
	f.DurationVar(&o.Startup, "startup", o.Startup, "how long the daemon works, asleep, before it listens")
	return cmd
}

func benchIdleCommand() *cobra.Command {
	b := &benching{}
	seconds := bench.DefaultIdle.Seconds()
	cmd := b.verb("idle", "How often a broker and backends with nothing to do are woken", func(cmd *cobra.Command) (any, func(io.Writer) error, error) {
		span := time.Duration(seconds * float64(time.Second))
		if span <= 0 || span > bench.MaxIdle {
			return nil, nil, usageError(cmd, fmt.Errorf("--seconds is %g: want more than 0, at most %g", seconds, bench.MaxIdle.Seconds()))
		}
		f, err := bench.Idle(cmd.Context(), b.opts, span)
		return f, func(w io.Writer) error { return f.Write(w) }, err
	})
	cmd.Long = "Count the context switches, voluntary or not, of all threads of a broker with one backend, of that\n" +
		"backend, and of a backend whose broker has gone, once they have settled."
	cmd.Flags().Float64Var(&seconds, "seconds", seconds, "how long to count")
	return cmd
}

// benchRoleCommand is what the benchmark's child processes run.
func benchRoleCommand(*app) *cobra.Command {
	role := &cobra.Command{Use: "bench-role", Short: "One process of usher bench", Hidden: true}
	role.AddCommand(&cobra.Command{
		Use: "broker", Short: "Serve until standard input ends", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return bench.RunBroker(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	})
	var inline bool
	var pipe string
	backend := &cobra.Command{
		Use: "backend", Short: "Echo until standard input ends", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return bench.RunBackend(cmd.Context(), inline, pipe, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	backend.Flags().BoolVar(&inline, "inline", false, "answer first requests at once")
	backend.Flags().StringVar(&pipe, "pipe", "", "the backend's own socket")
	var wait bool
	call := &cobra.Command{
		Use: "call", Short: "Call a one-binary tool once", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return bench.RunCall(cmd.Context(), wait, cmd.OutOrStdout())
		},
	}
	call.Flags().BoolVar(&wait, "wait", false, "begin when descriptor 3 has ended")
	role.AddCommand(backend, call, &cobra.Command{
		Use: "client", Short: "Measure until standard input ends", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return bench.RunClient(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	})
	return role
}

package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/demo"
)

func demoCommand(*app) *cobra.Command {
	opts := demo.Options{}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show what usher does, with processes that freeze, die and are replaced",
		Long: "Start a broker, backends and clients as processes of their own in a private directory, hand\n" +
			"connections over, freeze, kill and replace processes in the middle of it, call a tool in one\n" +
			"binary by 64 processes at once, and count what became of every request. Nothing outside of that directory is touched, and nothing is left behind.\n" +
			"It fails when a request ran twice or got lost, or a descriptor leaked.",
		Example: "  usher demo\n  usher demo --json --requests 2000",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.Requests < 1 || opts.Requests > demo.MaxRequests {
				return usageError(cmd, fmt.Errorf("--requests is %d: want 1 to %d", opts.Requests, demo.MaxRequests))
			}
			return runDemo(cmd, opts, asJSON)
		},
	}
	cmd.Flags().IntVar(&opts.Requests, "requests", demo.DefaultRequests, "how many requests are handed over at first")
	cmd.Flags().BoolVar(&opts.Keep, "keep", false, "keep the directory with definitions and logs")
	addJSON(cmd, &asJSON)
	return cmd
}

func runDemo(cmd *cobra.Command, opts demo.Options, asJSON bool) error {
	var err error
	if opts.Program, err = os.Executable(); err != nil {
		return err
	}
	clearLine := func() {}
	if stderr := cmd.ErrOrStderr(); isTerminal(stderr) {
		opts.Progress = func(scenario string) { _, _ = fmt.Fprintf(stderr, "\r\x1b[K%s …", scenario) }
		clearLine = func() { _, _ = io.WriteString(stderr, "\r\x1b[K") }
	}
	result, err := demo.Run(cmd.Context(), opts)
	clearLine()
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if asJSON {
		err = printJSON(out, result)
	} else {
		err = result.Write(out, isTerminal(out) && os.Getenv("NO_COLOR") == "")
	}
	if err == nil && !result.OK() {
		err = exitWith(exitFailed)
	}
	return err
}

// demoRoleCommand is what the demo's child processes run.
func demoRoleCommand(*app) *cobra.Command {
	role := &cobra.Command{Use: "demo-role", Short: "One process of usher demo", Hidden: true}
	role.AddCommand(demoBackendCommand(), demoClientCommand(), demoToolClientCommand())
	return role
}

func demoBackendCommand() *cobra.Command {
	var opts demo.BackendOptions
	cmd := &cobra.Command{
		Use:   "backend",
		Short: "Serve notes until standard input ends",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo.RunBackend(cmd.Context(), opts, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	var faults []string
	for _, f := range demo.Faults() {
		faults = append(faults, string(f))
	}
	cmd.Flags().StringVar(&opts.Pipe, "pipe", "", "the backend's own socket")
	cmd.Flags().StringVar((*string)(&opts.Fault), "fault", "", "what goes wrong, once: "+strings.Join(faults, ", "))
	return cmd
}

func demoClientCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "client",
		Short: "Run errands from standard input until it ends",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo.RunClient(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}

func demoToolClientCommand() *cobra.Command {
	var tool string
	cmd := &cobra.Command{
		Use:   "tool-client",
		Short: "Run errands from standard input, as a tool in one binary",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo.RunToolClient(cmd.Context(), tool, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&tool, "tool", "", "the tool's name")
	return cmd
}

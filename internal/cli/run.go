package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"

	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/launch"
)

// Exit codes of `usher run` where the program does not run, so that they are told from its
// own, as those of env and timeout are.
const (
	exitNotRun       = 125
	exitNoExecutable = 126
	exitNotFound     = 127
)

// running is `usher run`.
type running struct {
	*app
	stdio bool
}

func runCommand(a *app) *cobra.Command {
	r := &running{app: a}
	cmd := &cobra.Command{
		Use:   "run SERVICE[@VERSION] -- PROGRAM [ARGUMENT...]",
		Short: "Run a program with a connection to a service",
		Long: "Run a program with a connection to a service as its descriptor 3 (USHER_FD=3), or as its\n" +
			"standard input and output. usher becomes the program: process id, signals and exit code are\n" +
			"the program's. On Windows the connection is a handle, whose number is in USHER_HANDLE; usher\n" +
			"waits for the program, which ends with it, and ends with the program's exit code. Exit codes of\n" +
			"usher itself: 125 without a connection, 126 when the program can't be run, 127 when it is not\n" +
			"found.",
		Example: "  usher run notes -- ./client --verbose\n" +
			"  usher run --stdio notes@1.2.0 -- sh -c 'echo list; cat >&2'",
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: r.complete,
		RunE:              r.run,
	}
	cmd.Flags().BoolVar(&r.stdio, "stdio", false, "the connection is the program's standard input and output")
	cmd.Flags().SetInterspersed(false) // the program has flags of its own
	return cmd
}

// complete offers services first, then files.
func (r *running) complete(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return completeLiveServices(r.app)(cmd, args, word)
}

func (r *running) run(cmd *cobra.Command, args []string) error {
	program := args[1:]
	if program[0] == "--" {
		program = program[1:]
	}
	if len(program) == 0 {
		return usageError(cmd, errors.New("no program given"))
	}
	path, err := exec.LookPath(program[0]) // first: who can't run needs no connection
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return &ExitError{Code: exitNotFound, Err: err}
	case err != nil:
		return &ExitError{Code: exitNoExecutable, Err: err}
	}
	conn, err := r.dial(cmd, args[0], client.Options{NoReadAhead: true})
	var usage *UsageError
	switch {
	case err == nil:
	case errors.As(err, &usage), cmd.Context().Err() != nil:
		return err
	default:
		return &ExitError{Code: exitNotRun, Err: err}
	}
	defer func() { _ = conn.Close() }()
	place := launch.Inherited
	if r.stdio {
		place = launch.Stdio
	}
	code, err := launch.Become(path, program, os.Environ(), conn, place)
	if err != nil {
		return &ExitError{Code: exitNoExecutable, Err: fmt.Errorf("run %s: %w", path, err)}
	}
	return exitWith(code)
}

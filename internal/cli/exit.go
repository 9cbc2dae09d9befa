package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes (spec 04 §6).
const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// UsageError reports a command line that can't be run.
type UsageError struct {
	Command string // whose --help explains it
	Err     error
}

func (e *UsageError) Error() string {
	return fmt.Sprintf("%v\nRun '%s --help' for usage.", e.Err, e.Command)
}

// Unwrap returns the cause.
func (e *UsageError) Unwrap() error { return e.Err }

func usageError(cmd *cobra.Command, err error) error {
	return &UsageError{Command: cmd.CommandPath(), Err: err}
}

// ExitError ends usher with a code. A nil Err means that all has been said on
// standard output.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

// Unwrap returns the cause.
func (e *ExitError) Unwrap() error { return e.Err }

// exitWith is an ExitError for code, or nil for 0.
func exitWith(code int) error {
	if code == 0 {
		return nil
	}
	return &ExitError{Code: code}
}

// report says on stderr why a run failed and returns its exit code.
func report(stderr io.Writer, err error) int {
	var usage *UsageError
	var exit *ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if exit.Err != nil {
			fmt.Fprintf(stderr, "usher: %v\n", err)
		}
		return exit.Code
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(stderr, "usher: interrupted")
		return exitInterrupted
	}
	fmt.Fprintf(stderr, "usher: %v\n", err)
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// group is the RunE of a command that only has other commands.
func group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usageError(cmd, fmt.Errorf("no command given; known are %s", strings.Join(commandNames(cmd), ", ")))
	}
	err := fmt.Errorf("unknown command %q", args[0])
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
		err = fmt.Errorf("%w; did you mean %s?", err, strings.Join(similar, " or "))
	}
	return usageError(cmd, err)
}

// typos is how many letters a name may be off to be suggested.
const typos = 2

func commandNames(cmd *cobra.Command) (names []string) {
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
}

// settle makes, in cmd and every command below it, wrong arguments usage errors,
// and so too the use of a command that only has others.
func settle(cmd *cobra.Command) {
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args, cmd.RunE = cobra.ArbitraryArgs, group
		cmd.SuggestionsMinimumDistance = typos
	}
	if judge := cmd.Args; judge != nil {
		cmd.Args = func(c *cobra.Command, args []string) error {
			if err := judge(c, args); err != nil {
				return usageError(c, err)
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		settle(c)
	}
}

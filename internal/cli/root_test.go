//go:build unix

package cli

import (
	"io"
	"testing"

	"github.com/spf13/cobra"
)

func TestUsageErrors(t *testing.T) {
	newPlace(t)
	for _, tc := range []struct {
		name   string
		args   []string
		stderr string
	}{
		{"nothing", nil, "no command given; known are backend-health, "},
		{"unknown", []string{"frobnicate"}, `unknown command "frobnicate"`},
		{"misspelt", []string{"statsu"}, "did you mean status?\nRun 'usher --help' for usage.\n"},
		{"unknown flag", []string{"status", "--frob"}, "Run 'usher status --help' for usage."},
		{"extra argument", []string{"healthz", "x"}, "Run 'usher healthz --help' for usage."},
		{"group alone", []string{"service"}, "known are add, check, list, pause, remove, restart, resume, show, stop"},
		{"unknown in group", []string{"service", "ad"}, "did you mean add?"},
		{"unknown shell", []string{"completion", "ksh"}, `unknown command "ksh"`},
		{"empty socket", []string{"status", "--socket", ""}, "names no socket"},
		{"socket twice", []string{"--socket", "/a", "status", "--socket", "/b"}, "given more than once"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			run(t, tc.args...).want(t, exitUsage, "", tc.stderr)
		})
	}
}

func TestHelp(t *testing.T) {
	run(t, "--help").want(t, 0, "connect", "")
	run(t, "service", "add", "-h").want(t, 0, "--binary", "")
}

// TestCommands holds every command to what settle and the help text need.
func TestCommands(t *testing.T) {
	var judge func(cmd *cobra.Command)
	judge = func(cmd *cobra.Command) {
		if cmd.Short == "" || cmd.Args == nil || !cmd.Runnable() {
			t.Errorf("%q lacks a short text, a rule for its arguments, or what to run", cmd.CommandPath())
		}
		for _, c := range cmd.Commands() {
			judge(c)
		}
	}
	judge(New(nil, io.Discard, io.Discard))
}

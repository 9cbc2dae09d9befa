package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestReport(t *testing.T) {
	cause := errors.New("cause")
	for _, tc := range []struct {
		name   string
		err    error
		code   int
		stderr string
	}{
		{"done", nil, 0, ""},
		{"failed", fmt.Errorf("it: %w", cause), 1, "usher: it: cause\n"},
		{"usage", usageError(&cobra.Command{Use: "x"}, cause), 2, "usher: cause\nRun 'x --help' for usage.\n"},
		{"silent code", exitWith(7), 7, ""},
		{"code and text", fmt.Errorf("it: %w", &ExitError{Code: 3, Err: cause}), 3, "usher: it: cause\n"},
		{"no code", exitWith(0), 0, ""},
		{"interrupted", fmt.Errorf("it: %w", context.Canceled), 130, "usher: interrupted\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var stderr strings.Builder
			if code := report(&stderr, tc.err); code != tc.code || stderr.String() != tc.stderr {
				t.Errorf("got %d and %q, want %d and %q", code, stderr.String(), tc.code, tc.stderr)
			}
		})
	}
}

func TestErrorsKeepTheirCause(t *testing.T) {
	cause := errors.New("cause")
	for _, err := range []error{
		&UsageError{Err: cause}, &ExitError{Err: cause}, &NoBrokerError{Err: cause},
	} {
		if !errors.Is(err, cause) {
			t.Errorf("%T lost its cause", err)
		}
	}
	if text := (&ExitError{Code: 4}).Error(); text != "exit code 4" {
		t.Errorf("text is %q", text)
	}
}

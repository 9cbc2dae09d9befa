//go:build unix

package cli

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/seed-7265657e/usher/internal/testutil"
)

func TestConnect(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	p.define(t, "notes")
	p.startBroker(t)
	p.startBackend(t, "notes", "1.2.0", echo)
	p.startBackend(t, "notes", "1.10.0", func(c net.Conn) {
		_, _ = io.WriteString(c, "newest\n")
		_, _ = io.Copy(io.Discard, c) // what is left unread would turn the end into a reset
	})
	for _, tc := range []struct {
		name           string
		args           []string
		stdout, stderr string
	}{
		{"version", []string{"notes@1.2.0"}, "HELLO", ""},
		{"newest version", []string{"notes"}, "newest\n", ""},
		{"route", []string{"-v", "notes@1.2.0"}, "HELLO", "usher: handed over to notes@1.2.0, connection "},
		{"reconnect", []string{"-v", "--no-handoff", "notes@1.2.0"}, "HELLO", "usher: reconnected to notes@1.2.0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			runWith(t.Context(), strings.NewReader("hello"), append([]string{"connect"}, tc.args...)...).
				want(t, 0, tc.stdout, tc.stderr)
		})
	}
}

func TestConnectRefused(t *testing.T) {
	p := newPlace(t)
	run(t, "connect", "notes@1.2.0").want(t, exitFailed, "", "broker unreachable")
	run(t, "connect", "notes").want(t, exitFailed, "", "no broker answers")
	p.startBroker(t)
	run(t, "connect", "notes@1.2.0").want(t, exitFailed, "", "service definition was not found (ERROR_SERVICE_UNKNOWN)")
	run(t, "connect", "notes").want(t, exitFailed, "", `no live backend of service "notes"`)
	p.define(t, "notes")
	run(t, "connect", "notes@1.2.0").want(t, exitFailed, "", "; retry after 1s")
	run(t, "connect", "Notes").want(t, exitUsage, "", "service_name")
	run(t, "connect", "notes@1").want(t, exitUsage, "", "version")
	run(t, "connect").want(t, exitUsage, "", "accepts 1 arg")
}

// TestConnectUnknownOutcome ends a connection that has read and not answered,
// while more input could come.
func TestConnectUnknownOutcome(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	p.define(t, "notes")
	p.startBroker(t)
	p.startBackend(t, "notes", "1.2.0", func(c net.Conn) { _, _ = c.Read(make([]byte, 64)) })
	stdin, input := io.Pipe()
	defer input.Close()
	go func() { _, _ = io.WriteString(input, "hello") }()
	runWith(t.Context(), stdin, "connect", "notes@1.2.0").want(t, exitFailed, "", "outcome unknown")
}

func TestConnectInterrupted(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	p.define(t, "notes")
	p.startBroker(t)
	ctx, cancel := context.WithCancel(t.Context())
	p.startBackend(t, "notes", "1.2.0", func(c net.Conn) {
		cancel()
		_, _ = c.Read(make([]byte, 1))
	})
	stdin, input := io.Pipe()
	defer input.Close()
	runWith(ctx, stdin, "connect", "notes@1.2.0").want(t, exitInterrupted, "", "interrupted")
}

func TestConnectFaultyInput(t *testing.T) {
	p := newPlace(t)
	p.define(t, "notes")
	p.startBroker(t)
	p.startBackend(t, "notes", "1.2.0", echo)
	stdin := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(os.ErrDeadlineExceeded))
	runWith(t.Context(), stdin, "connect", "notes@1.2.0").want(t, exitFailed, "HALF", "standard input: i/o timeout")
}

func TestSourceKeepsItsError(t *testing.T) {
	s := &source{Reader: iotest.ErrReader(os.ErrClosed)}
	if _, err := io.ReadAll(s); !errors.Is(s.err, os.ErrClosed) || err == nil {
		t.Errorf("kept %v, returned %v", s.err, err)
	}
}

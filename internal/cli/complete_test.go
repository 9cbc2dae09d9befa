//go:build unix

package cli

import (
	"strings"
	"testing"
)

func TestCompletion(t *testing.T) {
	newPlace(t)
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		run(t, "completion", shell).want(t, 0, "usher", "")
	}
}

func TestCompleteNames(t *testing.T) {
	p := newPlace(t)
	suggest := func(args ...string) string {
		t.Helper()
		r := run(t, append([]string{"__complete"}, args...)...)
		names, _, ok := strings.Cut(r.stdout, ":4\n") // no file names
		if !ok {
			t.Fatalf("%v: %+v", args, r)
		}
		return strings.Join(strings.Fields(names), " ")
	}
	check := func(want string, args ...string) {
		t.Helper()
		if got := suggest(args...); got != want {
			t.Errorf("%v suggests %q, want %q", args, got, want)
		}
	}
	check("", "connect", "")
	check("", "service", "show", "")
	check("", "unit", "install", "")

	check("--idle-exit end after so long without a backend and a client (default: never)", "serve", "--idle")

	p.define(t, "notes")
	p.define(t, "web")
	p.startBroker(t)
	p.startBackend(t, "notes", "1.2.0", echo)
	p.startBackend(t, "notes", "1.3.0", echo)
	check("notes", "connect", "")
	check("notes", "run", "")
	check("notes", "backend-health", "")
	check("notes", "service", "restart", "")
	check("", "service", "stop", "notes", "")
	check("notes", "logs", "")
	check("--follow go on with what is said from now on, until interrupted", "logs", "--fol")
	check("", "connect", "notes", "")
	check("notes web", "service", "show", "")
	check("notes web", "service", "remove", "")
	check("", "service", "remove", "notes", "")
	check("web", "service", "check", "notes", "")
}

//go:build unix

package cli

import (
	"strings"
	"testing"
)

// The demo itself is tested in internal/demo, with real processes.

func TestDemoUsage(t *testing.T) {
	run(t, "demo", "--requests", "0").want(t, exitUsage, "", "--requests is 0: want 1 to 10000")
	run(t, "demo", "--requests", "x").want(t, exitUsage, "", "Run 'usher demo --help' for usage.")
	run(t, "demo", "extra").want(t, exitUsage, "", "Run 'usher demo --help' for usage.")
	run(t, "demo-role").want(t, exitUsage, "", "known are backend, client, tool-client")
}

func TestDemoRoles(t *testing.T) {
	run(t, "demo-role", "backend", "--fault", "sneeze").want(t, exitFailed, "", `fault "sneeze" is not one of`)
	const ready = `{"ready":true}` + "\n"
	runWith(t.Context(), strings.NewReader("not JSON\n"), "demo-role", "client").want(t, exitFailed, ready, "question: ")
	runWith(t.Context(), strings.NewReader(""), "demo-role", "client").want(t, 0, ready, "")
}

func TestDemoRoleIsHidden(t *testing.T) {
	if help := run(t, "--help").stdout; strings.Contains(help, "demo-role") || !strings.Contains(help, "demo ") {
		t.Errorf("help:\n%s", help)
	}
}

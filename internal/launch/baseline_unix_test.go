//go:build unix

package launch_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/launch"
)

// TestBaseline: login, directories and language are there, once each; nothing that the
// caller happened to have set is.
func TestBaseline(t *testing.T) {
	for name, value := range map[string]string{
		"ACCIDENTAL": "1", "PATH": "/tmp/mine", "LC_TIME": "de_DE", "XDG_RUNTIME_DIR": "/run/x", "TZ": "", "HOME": "/home/test",
	} {
		t.Setenv(name, value)
	}
	env := launch.Baseline("KEY=value")
	names := make(map[string]string)
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		if _, twice := names[name]; twice {
			t.Errorf("%s comes twice", name)
		}
		names[name] = value
	}
	for name, want := range map[string]string{
		"LC_TIME": "de_DE", "XDG_RUNTIME_DIR": "/run/x", "HOME": "/home/test", "KEY": "value",
	} {
		if names[name] != want {
			t.Errorf("%s is %q, want %q", name, names[name], want)
		}
	}
	if names["USER"] == "" || names["USER"] != names["LOGNAME"] || !strings.Contains(names["PATH"], "/usr/bin") {
		t.Errorf("got %q", env)
	}
	for _, name := range []string{"ACCIDENTAL", "TZ"} {
		if _, there := names[name]; there {
			t.Errorf("%s is there", name)
		}
	}
	if slices.Contains(env, "PATH=/tmp/mine") {
		t.Error("PATH is the caller's")
	}
}

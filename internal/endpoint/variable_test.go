package endpoint

import (
	"errors"
	"strings"
	"testing"
)

// withEnv is a host with these variables alone.
func withEnv(goos string, env map[string]string) host {
	return host{
		goos: goos, uid: 7,
		home:   func() (string, error) { return "/home/u", nil },
		lookup: func(k string) (string, bool) { v, ok := env[k]; return v, ok },
		mapped: func() bool { return false },
	}
}

// TestRelativeVariableIsAnError: it would mean another place in each process.
func TestRelativeVariableIsAnError(t *testing.T) {
	socket := func(h host) (string, error) { return h.socketPath("x") }
	config := func(h host) (string, error) { dir, _, err := h.serviceDefinitionDir(); return dir, err }
	for _, c := range []struct {
		goos, variable string
		path           func(host) (string, error)
	}{
		{"linux", "XDG_RUNTIME_DIR", socket},
		{"darwin", "TMPDIR", socket},
		{"linux", ServiceDefVariable, config},
		{"linux", "XDG_CONFIG_HOME", config},
		{"windows", "APPDATA", config},
		{"linux", "XDG_STATE_HOME", host.stateDir},
		{"windows", "LOCALAPPDATA", host.stateDir},
	} {
		path, err := c.path(withEnv(c.goos, map[string]string{c.variable: "somewhere/else"}))
		var wrong *VariableError
		if !errors.As(err, &wrong) || wrong.Variable != c.variable || !strings.Contains(err.Error(), "unset it") {
			t.Errorf("%s: %q, %v; want an error that names it and says what to do", c.variable, path, err)
		}
	}
	t.Setenv(SocketVariable, "broker.sock")
	if path, err := BrokerSocket(""); err == nil || !strings.Contains(err.Error(), SocketVariable) {
		t.Errorf("%s: %q, %v", SocketVariable, path, err)
	}
}

func TestRelativeHomeIsAnError(t *testing.T) {
	h := withEnv("linux", nil)
	h.home = func() (string, error) { return "u", nil }
	if dir, _, err := h.serviceDefinitionDir(); err == nil || !strings.Contains(err.Error(), "HOME") {
		t.Errorf("%q, %v", dir, err)
	}
}

// TestMissingHomeSaysWhatToSet: cron, a service manager and a container start processes
// without it.
func TestMissingHomeSaysWhatToSet(t *testing.T) {
	h := withEnv("linux", nil)
	h.home = func() (string, error) { return "", errors.New("$HOME is not defined") }
	var v *VariableError
	if dir, err := h.stateDir(); !errors.As(err, &v) || v.Variable != "HOME" {
		t.Errorf("%q, %v", dir, err)
	}
}

func TestAbsolutePathsOfWindows(t *testing.T) {
	for _, path := range []string{`C:\Users\u\AppData`, `c:/users`, `\\server\share`} {
		if got, err := withEnv("windows", map[string]string{"LOCALAPPDATA": path}).stateDir(); err != nil {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
}

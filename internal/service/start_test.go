package service_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestStartPolicy: the table of a TOML definition, the labels of a v1 file, and what Save
// writes, say the same.
func TestStartPolicy(t *testing.T) {
	testStartPolicy(t, `binary_path = "/usr/bin/notes"
labels = {team = "web"}
[start]
args = ["--cache", "a b"]
env = {LANG = "C", A = "x=y"}
idle = "10m"
timeout = "1500ms"
max_instances = 3
protocol = "v1"
handoff_endpoint = "/run/notes.sock"
`, &service.StartPolicy{
		Mode: service.SDK, Args: []string{"--cache", "a b"}, Env: []string{"A=x=y", "LANG=C"},
		Idle: 10 * time.Minute, Timeout: 1500 * time.Millisecond, MaxInstances: 3,
		V1: true, HandoffEndpoint: "/run/notes.sock",
	})
	testStartPolicy(t, `binary_path = "/usr/bin/notes"
labels = {team = "web"}
[start]
mode = "inetd"
listen = "/run/notes.sock"
max_instances = 3
max_per_second = 7
`, &service.StartPolicy{Mode: service.Inetd, Listen: "/run/notes.sock", MaxInstances: 3, MaxPerSecond: 7})
	testStartPolicy(t, `binary_path = "/usr/bin/notes"
labels = {team = "web"}
[start]
mode = "relay"
address = "127.0.0.1:6379"
notify = true
`, &service.StartPolicy{Mode: service.Relay, Address: "127.0.0.1:6379", Notify: true})
	testStartPolicy(t, `binary_path = "/usr/bin/notes"
labels = {team = "web"}
[start]
mode = "listen-fds"
listen = "/run/notes.sock"
notify = true
`, &service.StartPolicy{Mode: service.ListenFDs, Listen: "/run/notes.sock", Notify: true})
}

// TestStartPolicyDisagrees: what does not go together is an error that says so.
func TestStartPolicyDisagrees(t *testing.T) {
	for labels, want := range map[string]string{
		"listen=/s":                             "another mode than sdk",
		"mode=oops":                             "one of sdk, inetd, stdio, relay, listen-fds",
		"mode=inetd listen=s":                   "an absolute path",
		"max-per-second=1":                      "a process for each connection",
		"mode=inetd idle=1s":                    "serve many connections",
		"mode=inetd address=/s":                 "with no other",
		"mode=listen-fds":                       "a path with the mode listen-fds",
		"mode=inetd notify=true":                "it with the modes listen-fds and relay",
		"mode=relay":                            "an address with the mode relay",
		"mode=relay address=1.2.3.4:5":          "of the loopback",
		"mode=relay address=/s listen=/s":       "another path",
		"mode=relay address=/s idle=1s":         "the mode sdk",
		"mode=relay address=/s max-instances=2": "more than one process",
	} {
		d := &service.Definition{ServiceDefinition: &wire.ServiceDefinition{Labels: map[string]string{"usher.start": "on-demand"}}}
		for _, label := range strings.Fields(labels) {
			name, value, _ := strings.Cut(label, "=")
			d.Labels["usher.start."+name] = value
		}
		if p, err := d.StartPolicy(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v, want %s", labels, p, err, want)
		}
	}
}

func testStartPolicy(t *testing.T, table string, want *service.StartPolicy) {
	t.Helper()
	dir := t.TempDir()
	if err := endpoint.EnsurePrivate(dir); err != nil {
		t.Fatal(err)
	}
	write(t, dir, table)
	check := func(what string) *service.Definition {
		t.Helper()
		d, err := service.Load(dir, "notes")
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		got, err := d.StartPolicy()
		if err != nil || !cmp.Equal(got, want) || d.Labels["team"] != "web" {
			t.Errorf("%s: %v, %v", what, cmp.Diff(got, want), err)
		}
		return d
	}
	d := check("the table")
	for _, format := range []service.Format{service.Binary, service.TOML} {
		if err := service.Remove(dir, "notes"); err != nil {
			t.Fatal(err)
		}
		if _, err := service.Save(dir, d.ServiceDefinition, format); err != nil {
			t.Fatal(err)
		}
		check("saved")
	}
	text, err := os.ReadFile(filepath.Join(dir, "notes.toml"))
	if err != nil || !strings.Contains(string(text), "[start]") || strings.Contains(string(text), "usher.start") {
		t.Errorf("saved as %s, %v", text, err)
	}
	write(t, dir, "binary_path = \"/usr/bin/notes\"\n[start]\n")
	d, err = service.Load(dir, "notes")
	if err != nil {
		t.Fatal(err)
	}
	if p, err := d.StartPolicy(); err != nil || !cmp.Equal(p, &service.StartPolicy{Mode: service.SDK}) {
		t.Errorf("an empty table: %v, %v", p, err)
	}
	write(t, dir, "binary_path = \"/usr/bin/notes\"\n")
	if d, err = service.Load(dir, "notes"); err != nil {
		t.Fatal(err)
	}
	if p, err := d.StartPolicy(); p != nil || err != nil {
		t.Errorf("without a table: %v, %v", p, err)
	}
}

func write(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "notes.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestBadStartPolicy: what is wrong is named.
func TestBadStartPolicy(t *testing.T) {
	for label, value := range map[string]string{
		"usher.start": "always", "usher.start.args": "--x", "usher.start.env": `["A"]`,
		"usher.start.idle": "10", "usher.start.timeout": "-1s", "usher.start.max-instances": "0",
		"usher.start.protocol": "v2", "usher.start.handoff-endpoint": "/run/h.sock",
	} {
		labels := map[string]string{"usher.start": "on-demand"}
		labels[label] = value
		d := &service.Definition{ServiceDefinition: &wire.ServiceDefinition{Labels: labels}}
		_, err := d.StartPolicy()
		var fault *service.LabelError
		if !errors.As(err, &fault) || fault.Label != label || fault.Value != value {
			t.Errorf("%s = %q: %v", label, value, err)
		}
	}
	dir := t.TempDir()
	if err := endpoint.EnsurePrivate(dir); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "binary_path = \"/usr/bin/notes\"\n[start]\nidel = \"10m\"\n")
	if _, err := service.Load(dir, "notes"); err == nil || !strings.Contains(err.Error(), "idel") || !strings.Contains(err.Error(), "max_instances") {
		t.Errorf("a misspelt key: %v", err)
	}
}

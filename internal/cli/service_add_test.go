//go:build unix

package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/wire"
)

func TestServiceAdd(t *testing.T) {
	p := newPlace(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"toml", "servicedef"} {
		t.Run(format, func(t *testing.T) {
			name := "notes-" + format
			run(t, "service", "add", name, "--binary", self, "--format", format,
				"--isolation", "explicit", "--explicit-instance", "ci",
				"--min-version", "1.2.0", "--allow-version", "1.2.0", "--allow-version", "1.3.0-rc.1",
				"--per-version-binary-dir", p.dir, "--label", "team=web", "--label", "tier=1",
			).want(t, 0, filepath.Join(p.definitions, name+"."+format)+"\n", "")
			got, err := service.Load(p.definitions, name)
			if err != nil {
				t.Fatal(err)
			}
			want := &wire.ServiceDefinition{
				ServiceName:         name,
				BinaryPath:          self,
				Isolation:           wire.BrokerIsolation_EXPLICIT_INSTANCE,
				ExplicitInstance:    "ci",
				PerVersionBinaryDir: p.dir,
				MinVersion:          "1.2.0",
				VersionAllowList:    []string{"1.2.0", "1.3.0-rc.1"},
				Labels:              map[string]string{"team": "web", "tier": "1"},
			}
			if diff := cmp.Diff(want, got.ServiceDefinition, protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestServiceAddDefaults(t *testing.T) {
	p := newPlace(t)
	t.Chdir(p.dir)
	dir := filepath.Join(p.dir, "elsewhere")
	run(t, "service", "add", "notes", "--binary", "notes-bin", "--service-def-dir", dir).
		want(t, 0, filepath.Join(dir, "notes.toml"), "no backend can register until it is there")
	got, err := service.Load(dir, "notes")
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(p.dir, "notes-bin"); got.BinaryPath != want || got.Isolation != wire.BrokerIsolation_SHARED_BROKER {
		t.Errorf("got %v", got.ServiceDefinition)
	}
}

func TestServiceAddTwice(t *testing.T) {
	p := newPlace(t)
	p.define(t, "notes")
	add := func(more ...string) result {
		t.Helper()
		return run(t, append([]string{"service", "add", "notes", "--binary", "/bin/sh"}, more...)...)
	}
	add().want(t, exitFailed, "", "is defined already: replace it with --force")
	add("--format", "servicedef").want(t, exitFailed, "", "is defined already")
	add("--force").want(t, 0, "notes.toml", "")
	add("--force", "--format", "servicedef").want(t, 0, "notes.servicedef", "")
	if _, err := os.Stat(filepath.Join(p.definitions, "notes.toml")); err == nil {
		t.Error("the definition in the other format is still there")
	}
	if err := os.WriteFile(filepath.Join(p.definitions, "notes.servicedef"), []byte{0xff}, 0o600); err != nil {
		t.Fatal(err)
	}
	add().want(t, exitFailed, "", "does not load")
	add("--force").want(t, 0, "notes.toml", "")
}

func TestServiceAddRefuses(t *testing.T) {
	p := newPlace(t)
	for _, tc := range []struct {
		name   string
		args   []string
		code   int
		stderr string
	}{
		{"no binary", []string{"notes"}, exitUsage, "--binary"},
		{"bad name", []string{"../notes", "--binary", "/b"}, exitUsage, "service_name"},
		{"bad format", []string{"notes", "--binary", "/b", "--format", "yaml"}, exitUsage, "toml, servicedef"},
		{"bad isolation", []string{"notes", "--binary", "/b", "--isolation", "none"}, exitUsage, "explicit, private, shared"},
		{"no instance", []string{"notes", "--binary", "/b", "--isolation", "explicit"}, exitFailed, "explicit"},
		{"bad version", []string{"notes", "--binary", "/b", "--min-version", "1"}, exitFailed, "version"},
		{"bad label", []string{"notes", "--binary", "/b", "--label", "x"}, exitUsage, "label"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			run(t, append([]string{"service", "add"}, tc.args...)...).want(t, tc.code, "", tc.stderr)
			if entries, _ := os.ReadDir(p.definitions); len(entries) != 0 {
				t.Errorf("left behind: %v", entries)
			}
		})
	}
}

func TestServiceAddInsecureDirectory(t *testing.T) {
	p := newPlace(t)
	if err := os.Mkdir(p.definitions, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "service", "add", "notes", "--binary", "/bin/sh").want(t, exitFailed, "", "chmod 700")
}

// TestServiceAddV1: instances of plain v1 are said to be such, in words that are judged.
func TestServiceAddV1(t *testing.T) {
	newPlace(t)
	run(t, "service", "add", "notes", "--binary", "/bin/sh", "--protocol", "v1", "--handoff-endpoint", "/run/h.sock").want(t, 0, "notes.toml", "")
	run(t, "service", "show", "notes").want(t, 0, "usher.start.protocol", "")
	run(t, "service", "add", "web", "--binary", "/bin/sh", "--protocol", "v2").want(t, exitUsage, "", `--protocol is "v2"`)
	run(t, "service", "add", "web", "--binary", "/bin/sh", "--handoff-endpoint", "/run/h.sock").want(t, exitUsage, "", "with protocol v1")
}

//go:build unix

package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestServiceList(t *testing.T) {
	p := newPlace(t)
	run(t, "service", "list").want(t, 0, "no services are defined in "+p.definitions, "")
	if got := run(t, "service", "list", "--json").stdout; got != "[]\n" {
		t.Errorf("empty list is %q", got)
	}

	run(t, "service", "add", "web", "--binary", "/bin/sh", "--min-version", "1.2.0", "--allow-version", "1.3.0")
	p.define(t, "notes")
	if err := os.WriteFile(filepath.Join(p.definitions, "bad.toml"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t, "service", "list")
	r.want(t, 0, "SERVICE  ISOLATION  VERSIONS", "")
	lines := strings.Split(r.stdout, "\n")
	for i, text := range []string{"SERVICE", `usher service check bad`, "every version", "from 1.2.0, only 1.3.0"} {
		if !strings.Contains(lines[i], text) {
			t.Errorf("line %d is %q, want it with %q", i, lines[i], text)
		}
	}

	var views []definitionView
	if err := json.Unmarshal([]byte(run(t, "service", "list", "--json").stdout), &views); err != nil {
		t.Fatal(err)
	}
	if len(views) != 3 || views[0].Error == "" || views[2].MinVersion != "1.2.0" {
		t.Errorf("got %+v", views)
	}
}

func TestServiceListInsecureDirectory(t *testing.T) {
	p := newPlace(t)
	if err := os.Mkdir(p.definitions, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"list", "check"} {
		run(t, "service", verb).want(t, exitFailed, "", "chmod 700")
	}
}

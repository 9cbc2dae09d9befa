//go:build unix

package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestServiceCheck(t *testing.T) {
	p := newPlace(t)
	run(t, "service", "check").want(t, 0, "no services are defined", "")
	p.define(t, "notes")
	run(t, "service", "check").want(t, 0, "1 of 1 definitions in "+p.definitions+" are sound", "")
	run(t, "service", "check", "notes").want(t, 0, "are sound", "")

	files := map[string]string{
		"bad.toml":   "binary = 1\n",
		"label.toml": "binary_path = \"/bin/sh\"\n[labels]\n\"handoff.enabled\" = \"perhaps\"\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(p.definitions, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := run(t, "service", "check")
	r.want(t, exitFailed, "bad: ", "")
	if n := strings.Count(r.stdout, "\n"); n != len(files) && !strings.Contains(r.stdout, "unknown key") {
		t.Errorf("want one line per fault:\n%s", r.stdout)
	}
	run(t, "service", "check", "notes").want(t, 0, "are sound", "")
	run(t, "service", "check", "notes", "none").want(t, exitFailed, "none: service definition was not found", "")
}

func TestServiceCheckJSON(t *testing.T) {
	p := newPlace(t)
	if got := run(t, "service", "check", "--json"); got != (result{stdout: "[]\n"}) {
		t.Errorf("got %+v", got)
	}
	p.define(t, "notes")
	r := run(t, "service", "check", "--json", "notes", "none")
	var got []checked
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
		t.Fatal(err)
	}
	if r.code != exitFailed || len(got) != 2 || !got[0].OK || got[1].OK || got[1].Error == "" {
		t.Errorf("exit code %d, %+v", r.code, got)
	}
}

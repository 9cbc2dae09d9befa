//go:build unix

package cli

import (
	"encoding/json"
	"path/filepath"
	"testing"
)

func TestServiceShow(t *testing.T) {
	p := newPlace(t)
	run(t, "service", "show", "notes").want(t, exitFailed, "", `service "notes" in `+p.definitions)
	run(t, "service", "add", "notes", "--binary", "/bin/sh", "--isolation", "explicit", "--explicit-instance", "ci",
		"--per-version-binary-dir", "/bin", "--min-version", "1.2.0", "--label", "b=2", "--label", "a=1")
	path := filepath.Join(p.definitions, "notes.toml")
	want := "service         notes\n" +
		"file            " + path + "\n" +
		"binary          /bin/sh\n" +
		"further builds  /bin\n" +
		"isolation       explicit\n" +
		"instance        ci\n" +
		"versions        from 1.2.0\n" +
		"label           a=1\n" +
		"label           b=2\n"
	if got := run(t, "service", "show", "notes"); got != (result{stdout: want}) {
		t.Errorf("got %+v, want\n%s", got, want)
	}
	var v definitionView
	if err := json.Unmarshal([]byte(run(t, "service", "show", "notes", "--json").stdout), &v); err != nil {
		t.Fatal(err)
	}
	if v.Service != "notes" || v.Path != path || v.ExplicitInstance != "ci" || v.Labels["b"] != "2" {
		t.Errorf("got %+v", v)
	}
}

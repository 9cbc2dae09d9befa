package cli

import (
	"bytes"
	"encoding/json"
	"runtime"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"--version"}} {
		var out bytes.Buffer
		if code := Run(t.Context(), args, nil, &out, &out); code != 0 || !strings.HasPrefix(out.String(), "usher ") {
			t.Errorf("%v: %d, %q", args, code, out.String())
		}
	}
}

func TestVersionJSON(t *testing.T) {
	var out, stderr bytes.Buffer
	if code := Run(t.Context(), []string{"version", "--json"}, nil, &out, &stderr); code != 0 {
		t.Fatal(code, stderr.String())
	}
	var b buildInfo
	if err := json.Unmarshal(out.Bytes(), &b); err != nil || b.Version == "" || b.Go != runtime.Version() {
		t.Errorf("%+v, %v", b, err)
	}
}

func TestVersionText(t *testing.T) {
	b := buildInfo{Version: "v1.0.0", Go: "go1.26", Revision: "abc", Time: "2026-01-01T00:00:00Z", Modified: true}
	want := "usher v1.0.0\nrevision abc of 2026-01-01T00:00:00Z, changed since\nbuilt with go1.26\n"
	if got := b.text(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

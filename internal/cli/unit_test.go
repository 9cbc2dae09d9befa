//go:build unix

package cli

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// verifyUnits has systemd judge units, as those of a user.
func verifyUnits(t *testing.T, paths ...string) {
	t.Helper()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze (Debian: systemd) is not installed")
	}
	out, err := exec.Command(analyze, append([]string{"--user", "verify"}, paths...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

func TestUnitPrint(t *testing.T) {
	p := newPlace(t)
	r := run(t, "unit", "print", "--instance", "private:notes", "--idle-exit", "90s")
	for _, want := range []string{
		"# usher-private-notes.socket\n", "# usher-private-notes.service\n",
		"ListenStream=%t/running-process/broker/rpb-v1-", "-svc-notes.sock\n",
		" serve --instance private:notes --socket %t/", " --service-def-dir %t/defs --idle-exit 1m30s\n",
		"Type=notify\n", "KillMode=process\n",
	} {
		r.want(t, 0, want, "")
	}
	run(t, "unit", "print").want(t, 0, "ListenStream=%t/b.sock\n", "") // as clients have it
	run(t, "unit", "print", "--socket", "/run/b.sock").want(t, 0, "--socket /run/b.sock", "")
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(p.dir, "elsewhere"))
	run(t, "unit", "print").want(t, 0, "ListenStream="+p.socket+"\n", "")

	var files []unitFile
	if err := json.Unmarshal([]byte(run(t, "unit", "print", "--json").stdout), &files); err != nil || len(files) != 2 || files[1].Name != "usher.service" {
		t.Errorf("JSON says %v, %v", files, err)
	}
}

func TestUnitUsage(t *testing.T) {
	newPlace(t)
	for _, tc := range []struct{ flag, stderr string }{
		{"--instance=public", "names no broker instance"},
		{"--idle-exit=0s", "above zero"},
		{"--user=false", "serves one user"},
	} {
		run(t, "unit", "print", tc.flag).want(t, exitUsage, "", tc.stderr)
		run(t, "unit", "install", tc.flag).want(t, exitUsage, "", tc.stderr)
	}
	run(t, "unit", "print", "--socket", "/a\nb").want(t, exitFailed, "", "control character")
	run(t, "unit", "print", "--socket", "/"+strings.Repeat("x", 200)).want(t, exitFailed, "", "at most")
}

// TestUnitNames: whatever a path holds, systemd reads it as that path.
func TestUnitNames(t *testing.T) {
	newPlace(t)
	dir := t.TempDir()
	b := unitBroker{
		Instance: "explicit:ci", Program: filepath.Join(dir, "a b %t $HOME ;"), Socket: "/run/u/50% $x.sock", RuntimeDir: "/run/u",
		Definitions: `/srv/x "y"`, IdleExit: time.Minute,
	}
	if err := os.WriteFile(b.Program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, f := range b.systemd() {
		paths = append(paths, filepath.Join(dir, f.Name))
		if err := os.WriteFile(paths[len(paths)-1], []byte(f.Content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, paths[1]); !strings.Contains(got, `"%t/50%% $$x.sock" --service-def-dir "/srv/x \"y\"" --idle-exit 1m0s`) {
		t.Errorf("the service is\n%s", got)
	}
	verifyUnits(t, paths...)
}

func TestUnitLaunchd(t *testing.T) {
	newPlace(t)
	r := run(t, "unit", "print", "--launchd", "--socket", "/a&b")
	r.want(t, 0, "<string>/a&amp;b</string>", "")
	for d := xml.NewDecoder(strings.NewReader(r.stdout)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestUnitInstall(t *testing.T) {
	p := newPlace(t)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(p.dir, "config"))
	dir := filepath.Join(p.dir, "config", "systemd", "user")
	socket, service := filepath.Join(dir, "usher.socket"), filepath.Join(dir, "usher.service")

	run(t, "unit", "install", "--dry-run").want(t, 0, "missing   "+socket, "")
	if _, err := os.Stat(dir); err == nil {
		t.Error("a dry run makes directories")
	}
	run(t, "unit", "install").want(t, 0, "written   "+service+"\nnext:\n  systemctl --user daemon-reload\n  systemctl --user enable --now usher.socket\n", "")
	for _, path := range []string{socket, service} {
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o644 {
			t.Errorf("%s: %v, %v", path, fi.Mode(), err)
		}
	}
	run(t, "unit", "install").want(t, 0, "unchanged "+socket, "")
	t.Run("verified", func(t *testing.T) { verifyUnits(t, socket, service) })

	before := read(t, service)
	run(t, "unit", "install", "--idle-exit", "1h").want(t, exitFailed, "", service+" is there and differs")
	run(t, "unit", "install", "--idle-exit", "1h", "--dry-run").want(t, 0, "differs   "+service, "")
	if read(t, service) != before {
		t.Error("it was replaced without --force")
	}
	r := run(t, "unit", "install", "--idle-exit", "1h", "--force", "--json")
	var said installed
	if err := json.Unmarshal([]byte(r.stdout), &said); err != nil || len(said.Files) != 2 || len(said.Next) != 3 ||
		said.Files[0].State != unitUnchanged || said.Files[1].State != unitWritten {
		t.Errorf("%+v, %v", said, err)
	}
	if !strings.Contains(read(t, service), "--idle-exit 1h") {
		t.Error("it was not replaced")
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

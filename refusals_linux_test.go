package usher_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestPrivileged: a file that runs with another's rights becomes neither broker nor daemon.
func TestPrivileged(t *testing.T) {
	i := install(t)
	if err := os.Chmod(i.Bin, 0o700|fs.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	for _, env := range []string{"", "USHER_ROLE=broker", "USHER_ROLE=daemon"} {
		out, err := i.command("x", env).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "it has set-uid, set-gid or capabilities") {
			t.Errorf("%s: %v: %s", env, err, out)
		}
	}
	if n := len(i.processes()); n != 0 {
		t.Errorf("%d processes", n)
	}
}

// TestOldLogsGo: each build and each key has a log of its own, so the oldest go; one whose
// daemon runs stays, however old it is.
func TestOldLogsGo(t *testing.T) {
	i := install(t)
	i.calls("x", "TOOL_KEY=quiet")
	dir := filepath.Join(i.Dir, "running-process", tool.Name)
	logs := func() []string {
		found, err := filepath.Glob(filepath.Join(dir, tool.Name+"-*.log*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	quiet := logs()
	old := time.Now().Add(-time.Hour)
	for n := range 100 {
		path := filepath.Join(dir, fmt.Sprintf("%s-%016x.log", tool.Name, n))
		for _, path := range []string{path, path + ".1"} {
			if err := os.WriteFile(path, []byte("old\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, path := range quiet {
		if err := os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
	}
	i.calls("x", "TOOL_KEY=other")
	left := logs()
	if len(left) > 2*64 || len(quiet) != 1 || !slices.Contains(left, quiet[0]) {
		t.Errorf("%d files are left; %q has to be one of them", len(left), quiet)
	}
}

// TestMainForgotten: where main does not call Main, the broker that a call starts would be a
// call as well, and start one itself, and so on. It fails at its Dial instead, and the
// first caller is told what is wrong.
func TestMainForgotten(t *testing.T) {
	i := install(t)
	out, err := i.command("x", envForgets+"=1").Output()
	if err == nil || !strings.Contains(string(out), "call Main first of all in main") {
		t.Errorf("%v: %s", err, out)
	}
	testutil.WaitFor(t, "nothing runs", func() bool { return len(i.processes()) == 0 })
}

// TestStateOfOthers: where others could put links, no log is written, and whoever calls is
// told what to do.
func TestStateOfOthers(t *testing.T) {
	i := install(t)
	state := filepath.Join(i.Dir, "running-process", tool.Name)
	if err := errors.Join(os.MkdirAll(state, 0o700), os.Chmod(state, 0o755)); err != nil {
		t.Fatal(err)
	}
	out, err := i.command("x").Output()
	if err == nil || !strings.Contains(string(out), "directory "+state+" has mode 0755 instead of 0700: look at what is inside, then run chmod 700 "+state) {
		t.Errorf("got %q, %v", out, err)
	}
	if left, err := os.ReadDir(state); err != nil || len(left) > 0 {
		t.Errorf("written: %v, %v", left, err)
	}
	if err := os.Chmod(state, 0o700); err != nil {
		t.Fatal(err)
	}
	i.calls("x")
}

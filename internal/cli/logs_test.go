//go:build linux

package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/logfile"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// shown is what a command has written so far, to a file: no lock is needed to read it.
type shown string

func (s shown) text() string {
	text, _ := os.ReadFile(string(s))
	return string(text)
}

// TestLogsFollow: what is added is shown, also across the moment at which the log begins
// anew, and of a daemon whose log comes later.
func TestLogsFollow(t *testing.T) {
	testutil.Leaks(t)
	newPlace(t)
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	dir, err := (&app{}).logDir(t.Context())
	if err != nil || !strings.HasPrefix(dir, state) {
		t.Fatalf("%q, %v", dir, err)
	}
	path := filepath.Join(dir, "notes.log")
	log, err := logfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	write := func(line string) {
		t.Helper()
		if _, err := log.WriteString(line + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	if got := run(t, "logs", "notes"); got.stdout != "one\n" {
		t.Errorf("got %+v", got)
	}
	write("two")

	out := shown(filepath.Join(t.TempDir(), "out"))
	to, err := os.Create(string(out))
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int)
	go func() { ended <- Run(ctx, []string{"logs", "-f", "notes"}, strings.NewReader(""), to, to) }()
	wait := func(want string) {
		t.Helper()
		testutil.WaitFor(t, want, func() bool { return strings.HasPrefix(out.text(), want) })
	}
	wait("one\ntwo\n")
	write("three")
	wait("one\ntwo\nthree\n")
	if err := logfile.Bound(path, 1); err != nil {
		t.Fatal(err)
	}
	write("four")
	wait("one\ntwo\nthree\nfour\n")
	other := filepath.Join(dir, "notes-0123456789abcdef.log")
	for _, name := range []string{other, filepath.Join(dir, "notes-and-more.log")} {
		if err := os.WriteFile(name, []byte("of "+filepath.Base(name)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wait("one\ntwo\nthree\nfour\n==> " + other + " <==\nof notes-0123456789abcdef.log\n")
	cancel()
	if code := <-ended; code != exitInterrupted || strings.Contains(out.text(), "of notes-and-more") {
		t.Errorf("exit code %d: %s", code, out.text())
	}
}

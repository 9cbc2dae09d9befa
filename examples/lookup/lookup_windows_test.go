package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// callVariable has a process be a call of the tool.
const callVariable = "LOOKUP_TEST_CALL"

// patience bounds what must happen; nothing that passes takes a part of it.
const patience = 40 * time.Second

func TestMain(m *testing.M) {
	tool.IdleTimeout = time.Minute // of what a test that is killed leaves
	tool.Main()
	if os.Getenv(callVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// installed is the tool, as a file of its own, in a directory with text to look up.
type installed struct{ dir, path string }

func install(t *testing.T) installed {
	t.Helper()
	dir, err := os.MkdirTemp("", "lookup")
	if err != nil {
		t.Fatal(err)
	}
	i := installed{dir, filepath.Join(dir, "lookup.exe")}
	t.Setenv("LOCALAPPDATA", filepath.Join(dir, "state"))
	if err := os.MkdirAll(i.root(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(i.root(), "text"), []byte("one\ntwo words\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	i.place(t, "")
	t.Cleanup(func() {
		i.stop(t)
		err := i.remove()
		for by := time.Now().Add(patience); err != nil && time.Now().Before(by); err = i.remove() {
			time.Sleep(10 * time.Millisecond) // the console of a process that has ended may have its log open for a moment
		}
		if err != nil {
			t.Error(err)
		}
	})
	return i
}

func (i installed) root() string { return filepath.Join(i.dir, "root") }

// place makes the file, of another content for each mark.
func (i installed) place(t *testing.T, mark string) {
	t.Helper()
	content, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(i.path, append(content, mark...), 0o700); err != nil {
		t.Fatal(err)
	}
}

// remove is os.RemoveAll by the calls that Wine has.
func (i installed) remove() error {
	var all []string
	err := filepath.WalkDir(i.dir, func(path string, _ fs.DirEntry, err error) error {
		all = append(all, path)
		return err
	})
	for _, path := range slices.Backward(all) {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

func (i installed) stop(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := tool.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func (i installed) status(t *testing.T) usher.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := tool.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// call is one of the tool, as a process of its own.
func (i installed) call(word string) (answer string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, i.path, "-root", i.root(), "-timeout", patience.String(), word)
	cmd.Env = append(os.Environ(), callVariable+"=1")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = errors.Join(err, errors.New(errs.String()))
	}
	return strings.TrimSpace(string(out)), err
}

// TestFirstCalls: those that come at once from nothing share one broker and one daemon.
func TestFirstCalls(t *testing.T) {
	i := install(t)
	const calls = 8
	ended := make(chan error, calls)
	for range calls {
		go func() {
			answer, err := i.call("words")
			if err == nil && answer != "text:2" {
				err = errors.New("answered " + answer)
			}
			ended <- err
		}()
	}
	for range calls {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	s := i.status(t)
	if s.Broker == 0 || len(s.Daemons) != 1 || s.Daemons[0].State != "ready" || s.Daemons[0].PID == s.Broker {
		t.Fatalf("there are %+v", s)
	}
	logs, err := tool.Logs()
	if err != nil || len(logs) != 2 {
		t.Fatalf("logs %q, %v", logs, err)
	}
	starts := 0
	text, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, `"broker.serving"`) {
			starts++
		}
	}
	if starts != 1 {
		t.Errorf("%d brokers have served:\n%s", starts, text)
	}
	i.stop(t)
	if s := i.status(t); s.Broker != 0 {
		t.Errorf("behind Stop there are %+v", s)
	}
	if answer, err := i.call("one"); err != nil || answer != "text:1" {
		t.Errorf("behind Stop: %q, %v", answer, err)
	}
}

// TestReplacedBuild: a call of another build has a daemon of its own, and that build takes the
// broker's place, which knows both; the file that runs keeps its content, and can be moved away.
func TestReplacedBuild(t *testing.T) {
	i := install(t)
	if _, err := i.call("one"); err != nil {
		t.Fatal(err)
	}
	first := i.status(t).Broker
	if err := os.WriteFile(i.path, []byte("another"), 0o700); err == nil {
		t.Error("a file that runs was written to")
	}
	if err := os.Rename(i.path, i.path+".old"); err != nil {
		t.Fatal(err)
	}
	i.place(t, "another build")
	if answer, err := i.call("one"); err != nil || answer != "text:1" {
		t.Fatalf("%q, %v", answer, err)
	}
	var s usher.Status
	testutil.WaitFor(t, "the newer build has taken the broker's place", func() bool {
		s = i.status(t)
		return s.Broker != 0 && s.Broker != first
	})
	if len(s.Daemons) != 2 || s.Daemons[0].Build == s.Daemons[1].Build || !slices.Contains(s.Daemons[0].DiffersIn, "build") {
		t.Errorf("there are %+v", s)
	}
}

// TestDaemonFails: whoever waits is told why.
func TestDaemonFails(t *testing.T) {
	i := install(t)
	if err := os.Remove(filepath.Join(i.root(), "text")); err != nil {
		t.Fatal(err)
	}
	if answer, err := i.call("one"); err == nil || !strings.Contains(err.Error(), "no text to index") {
		t.Errorf("%q, %v", answer, err)
	}
}

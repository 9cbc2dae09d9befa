package logfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/logfile"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestWriterIsBounded: whatever is written, two files of the bound and one line remain,
// and the last lines are among them.
func TestWriterIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "tool.log")
	w, err := logfile.NewWriter(path, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 500 {
		if _, err := fmt.Fprintf(w, "line %d\n", n); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	now, older := read(t, path), read(t, logfile.Older(path))
	if len(now) > 1010 || len(older) > 1010 {
		t.Errorf("%d and %d bytes", len(now), len(older))
	}
	if !strings.HasSuffix(older+now, "line 498\nline 499\n") {
		t.Errorf("ends with %q", older+now)
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}

// TestWriterContinues: a log that is opened again counts what is there.
func TestWriterContinues(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tool.log")
	for range 2 {
		w, err := logfile.NewWriter(path, 10)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("1234567\n")); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, logfile.Older(path)); got != "1234567\n1234567\n" {
		t.Errorf("moved away %q", got)
	}
}

// TestBoundWhileOthersAppend: a descriptor that appends goes on at the new beginning.
func TestBoundWhileOthersAppend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tool.log")
	f, err := logfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(bytes.Repeat([]byte("x"), 3*logfile.Max)); err != nil {
		t.Fatal(err)
	}
	if err := logfile.Bound(path, 100); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("after\n"); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); got != "after\n" {
		t.Errorf("got %d bytes", len(got))
	}
	if n := len(read(t, logfile.Older(path))); n != logfile.Max {
		t.Errorf("kept %d bytes", n)
	}
	if err := logfile.Bound(path, 100); err != nil || read(t, path) != "after\n" {
		t.Errorf("a short log was moved away: %v", err)
	}
}

func TestLast(t *testing.T) {
	long := strings.Repeat("y", 3000)
	for name, test := range map[string]struct {
		content string
		from    int64
		want    string
	}{
		"few lines":        {"a\nb\n", 0, "a\nb"},
		"those of now":     {"old\nnew\n", 4, "new"},
		"nothing new":      {"old\n", 4, ""},
		"begun anew":       {"new\n", 100, "new"},
		"the last eight":   {"1\n2\n3\n4\n5\n6\n7\n8\n9\n", 0, "2\n3\n4\n5\n6\n7\n8\n9"},
		"without line end": {"a\nb", 0, "a\nb"},
		"whole lines":      {long + "\nb\n", 0, "b"},
		"one long line":    {long, 0, long[:2<<10]},
		"a panic":          {"begun\npanic: boom\n\ngoroutine 1 [running]:\n1\n2\n3\n4\n5\n6\n7\n8\n", 0, "panic: boom\n\ngoroutine 1 [running]:\n1\n2\n3\n4\n5"},
		"a long trace":     {"panic: boom\n\ngoroutine 1 [running]:\n" + strings.Repeat("y\n", 4000), 0, "panic: boom\n\ngoroutine 1 [running]:\ny\ny\ny\ny\ny"},
		"a line like one":  {"panic: none\n" + strings.Repeat("y\n", 9), 0, "y\ny\ny\ny\ny\ny\ny\ny"},
		"a panic before":   {"panic: boom\nnew\n", 12, "new"},
		"no text":          {"\xff\n", 0, "�"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := logfile.Last(path, test.from); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	if got := logfile.Last(filepath.Join(t.TempDir(), "none"), 0); got != "" {
		t.Errorf("of no log: %q", got)
	}
}

// TestLinksAreNotFollowed: nothing is written to a file that a link in a log's place leads
// to, and the error says what to do.
func TestLinksAreNotFollowed(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "tool.log"), filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := func(name string) {
		t.Helper()
		if err := os.Symlink(other, name); err != nil {
			t.Skip("no links here:", err)
		}
	}
	link(path)
	if f, err := logfile.Open(path); err == nil || !strings.Contains(err.Error(), path+" is a symbolic link") {
		t.Errorf("Open: %v, %v", f, err)
	}
	if err := logfile.Bound(path, 1); err == nil {
		t.Error("Bound follows it")
	}
	if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte("a log"), 0o600)); err != nil {
		t.Fatal(err)
	}
	link(logfile.Older(path) + ".new")
	link(logfile.Older(path))
	if err := logfile.Bound(path, 1); err != nil || read(t, path) != "" {
		t.Errorf("Bound: %v", err)
	}
	if fi, err := os.Lstat(logfile.Older(path)); err != nil || !fi.Mode().IsRegular() || read(t, logfile.Older(path)) != "a log" {
		t.Errorf("what was moved away is %v, %v", fi, err)
	}
	if got := read(t, other); got != "mine" {
		t.Errorf("the other file is %q", got)
	}
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	if f, err := logfile.Open(path); err == nil {
		t.Errorf("a directory is opened: %v", f.Name())
	}
}

package broker_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/zeebo/blake3"

	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/internal/filehash"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestProgramReplacedAtItsStart: where a file is replaced between its opening and its
// hashing, what is started goes by the build that it is, and not by the one that comes next:
// its clients would never get that.
func TestProgramReplacedAtItsStart(t *testing.T) {
	testutil.Leaks(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "program")
	for name, content := range map[string]string{path: "old", path + ".new": "new"} {
		if err := os.WriteFile(name, []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	end := hashLarge(t) // so the program waits, and then for its end
	type opened struct {
		build   [32]byte
		content []byte
		err     error
	}
	got := make(chan opened, 1)
	go func() {
		var o opened
		o.build, o.content, o.err = broker.OpenProgram(t.Context(), path)
		got <- o
	}()
	testutil.WaitFor(t, "the program is open", func() bool { return isOpen(t, path) })
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	end()
	if o := <-got; o.err != nil || o.build != blake3.Sum256(o.content) {
		t.Errorf("%q goes by the build %x, %v", o.content, o.build, o.err)
	}
}

// TestLogsOfOthers: an instance is not started where others could have its log written
// through a link, and the client is told what to do.
func TestLogsOfOthers(t *testing.T) {
	s := starting(t, "", "")
	logs := filepath.Join(s.dir, "logs")
	if err := errors.Join(os.MkdirAll(logs, 0o700), os.Chmod(logs, 0o770)); err != nil {
		t.Fatal(err)
	}
	if answer, err := s.who(demoVersion); err == nil || !strings.Contains(err.Error(), "directory "+logs+" has mode 0770 instead of 0700") {
		t.Errorf("got %q, %v", answer, err)
	}
	log := filepath.Join(logs, demo+".log")
	if err := errors.Join(os.Chmod(logs, 0o700), os.Symlink(filepath.Join(s.dir, "victim"), log)); err != nil {
		t.Fatal(err)
	}
	s.defineStart(ownBinary(t), "# another", "")
	if answer, err := s.who("1.4.1"); err == nil || !strings.Contains(err.Error(), log+" is a symbolic link") {
		t.Errorf("got %q, %v", answer, err)
	}
}

// hashLarge has large files hashed until end is called. One file is hashed at a time, in the
// order in which they come, so what comes behind these waits: even a quick machine needs many
// seconds for them, and a busy one more.
func hashLarge(tb testing.TB) (end func()) {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "large")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Truncate(path, 2<<30); err != nil {
		tb.Skip("no sparse files here:", err)
	}
	ctx, cancel := context.WithCancel(tb.Context())
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() { _, _ = new(filehash.Cache).Hash(ctx, path) })
	}
	testutil.WaitFor(tb, "a large file is hashed", func() bool { return isOpen(tb, path) })
	end = func() { cancel(); all.Wait() }
	tb.Cleanup(end)
	return end
}

// isOpen reports whether this process has the file at path open.
func isOpen(tb testing.TB, path string) bool {
	tb.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		tb.Fatal(err)
	}
	for _, fd := range fds {
		if name, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && name == path {
			return true
		}
	}
	return false
}

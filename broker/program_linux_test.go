package broker_test

import (
	"context"
	"os"
	"path/filepath"
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
	path, large := filepath.Join(dir, "program"), filepath.Join(dir, "large")
	for name, content := range map[string]string{path: "old", path + ".new": "new", large: ""} {
		if err := os.WriteFile(name, []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(large, 2<<30); err != nil {
		t.Skip("no sparse files here:", err)
	}
	// One file is hashed at a time, so the program's waits for this one, and then for its end.
	ctx, end := context.WithCancel(t.Context())
	hashed := make(chan struct{})
	go func() {
		defer close(hashed)
		_, _ = new(filehash.Cache).Hash(ctx, large)
	}()
	testutil.WaitFor(t, "the large file is hashed", func() bool { return isOpen(t, large) })
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
	<-hashed
	if o := <-got; o.err != nil || o.build != blake3.Sum256(o.content) {
		t.Errorf("%q goes by the build %x, %v", o.content, o.build, o.err)
	}
}

// isOpen reports whether this process has the file at path open.
func isOpen(t *testing.T, path string) bool {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if name, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && name == path {
			return true
		}
	}
	return false
}

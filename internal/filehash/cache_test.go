package filehash

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"github.com/seed-7265657e/usher/internal/stamp"
	"github.com/seed-7265657e/usher/internal/testutil"
)

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCacheSeesChanges(t *testing.T) {
	var c Cache
	path := filepath.Join(t.TempDir(), "bin")
	expect := func(step, content string) {
		t.Helper()
		if got, err := c.Hash(t.Context(), path); err != nil || got != blake3.Sum256([]byte(content)) {
			t.Errorf("%s: %x, %v", step, got, err)
		}
	}
	writeFile(t, path, "one")
	expect("first", "one")

	// Same size and same modification time, but another file.
	old, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path+".new", "two")
	if err := os.Chtimes(path+".new", old.ModTime(), old.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	expect("replaced", "two")

	// Same file and size; the clock is set by hand because ticks are coarse.
	writeFile(t, path, "six")
	if err := os.Chtimes(path, time.Time{}, old.ModTime().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	expect("rewritten", "six")
}

func TestCacheHitsWithoutReading(t *testing.T) {
	var c Cache
	path := filepath.Join(t.TempDir(), "bin")
	writeFile(t, path, "real")
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	planted := [HashLen]byte{42}
	entry, _ := c.entry(keyOf(path, fi))
	entry.sum = planted
	close(entry.done)
	if got, err := c.Hash(t.Context(), path); err != nil || got != planted {
		t.Errorf("Hash = %x, %v; want the cached value", got, err)
	}
}

// TestCacheKeepsNothingOfAFreshFile, because another change could carry the same times;
// but what is old enough is kept.
func TestCacheKeepsNothingOfAFreshFile(t *testing.T) {
	var c Cache
	path := filepath.Join(t.TempDir(), "bin")
	hash := func() (kept int) {
		t.Helper()
		if _, err := c.Hash(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		return len(c.files)
	}
	testutil.WaitFor(t, "a file is written and hashed in time", func() bool {
		began := time.Now()
		writeFile(t, path, "one")
		kept := hash()
		if time.Since(began) > stamp.Racy/2 { // a busy machine
			clear(c.files)
			return false
		}
		if kept != 0 {
			t.Error("the hash of a file that has just been changed is kept")
		}
		return true
	})
	testutil.WaitFor(t, "the hash is kept", func() bool { return hash() == 1 })
}

func TestCacheForgetsFailures(t *testing.T) {
	var c Cache
	path := filepath.Join(t.TempDir(), "bin")
	if _, err := c.Hash(t.Context(), path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Hash(t.Context(), path); err == nil {
		t.Error("a directory has a hash")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, "x")
	if _, err := c.Hash(t.Context(), path); err != nil {
		t.Errorf("after the failures: %v", err)
	}
}

func TestCacheIsBoundedAndConcurrent(t *testing.T) {
	var c Cache
	dir := t.TempDir()
	for i := range maxCached + 1 {
		writeFile(t, filepath.Join(dir, strconv.Itoa(i)), strconv.Itoa(i))
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range maxCached + 1 {
				want := blake3.Sum256([]byte(strconv.Itoa(i)))
				if got, err := c.Hash(t.Context(), filepath.Join(dir, strconv.Itoa(i))); err != nil || got != want {
					t.Errorf("file %d: %x, %v", i, got, err)
				}
			}
		})
	}
	all.Wait()
	if len(c.files) > maxCached {
		t.Errorf("%d files cached, at most %d allowed", len(c.files), maxCached)
	}
}

// TestHashFileOfAReplacedFile: what is open is hashed, not what has its name by now; and as
// often as it is asked for.
func TestHashFileOfAReplacedFile(t *testing.T) {
	var c Cache
	path := filepath.Join(t.TempDir(), "bin")
	writeFile(t, path, "one")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	writeFile(t, path+".new", "two")
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, err := c.HashFile(t.Context(), f); err != nil || got != blake3.Sum256([]byte("one")) {
			t.Errorf("of the open file: %x, %v", got, err)
		}
	}
	if got, err := c.Hash(t.Context(), path); err != nil || got != blake3.Sum256([]byte("two")) {
		t.Errorf("at its path: %x, %v", got, err)
	}
}

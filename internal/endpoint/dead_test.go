//go:build unix

package endpoint

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// runtimeDir makes the directory of backends' pipes a fresh one.
func runtimeDir(t *testing.T) string {
	t.Helper()
	if runtime.GOOS == "darwin" {
		t.Skip("names tell nothing here")
	}
	t.Setenv("XDG_RUNTIME_DIR", shortDir(t))
	path, err := NewBackendPath()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(path)
}

func age(t *testing.T, path string) {
	t.Helper()
	long := time.Now().Add(-2 * sweepAge)
	if err := os.Chtimes(path, long, long); err != nil {
		t.Fatal(err)
	}
}

// TestDeadPipesAreRemoved, and nothing else in their directory is.
func TestDeadPipesAreRemoved(t *testing.T) {
	dir := runtimeDir(t)
	random := func() string {
		path, err := NewBackendPath()
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	dead := random()
	makeStale(t, dead)
	young := random()
	makeStale(t, young)
	live, err := BindBackend("")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	file := random()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	leaf := filepath.Base(random())
	kept := map[string]string{"young": young, "live": live.Path, "file": file}
	for name, leaf := range map[string]string{
		"chosen": "own.sock", "broker": strings.Split(leaf, "-be-")[0] + "-shared.sock",
		"another user's": strings.Replace(leaf, leaf[len(leafPrefix):len(leafPrefix)+4], "zzzz", 1),
		"no hex":         leaf[:len(leaf)-6] + "x.sock",
		"no suffix":      leaf[:len(leaf)-5] + ".sick",
	} {
		kept[name] = filepath.Join(dir, leaf)
		makeStale(t, kept[name])
	}
	age(t, dead)
	for name, path := range kept {
		if name != "young" {
			age(t, path)
		}
	}
	if n := RemoveDeadBackends(); n != 1 {
		t.Errorf("%d removed, want 1", n)
	}
	if _, err := os.Lstat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the dead one: %v", err)
	}
	for name, path := range kept {
		if name != "young" {
			RemoveDead(path)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Who was seen to end needs no age.
	RemoveDead(young)
	if _, err := os.Lstat(young); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the pipe of one seen to end: %v", err)
	}
}

func TestRemoveDeadBackendsWithoutADirectory(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(shortDir(t), "missing"))
	if n := RemoveDeadBackends(); n != 0 {
		t.Errorf("%d removed", n)
	}
}

//go:build unix

package endpoint

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// shortDir returns a private directory whose path leaves room for a socket name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "u")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func mustBind(t *testing.T, path string) *Binding {
	t.Helper()
	b, err := Bind(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// makeStale leaves a socket at path that nobody serves.
func makeStale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestBindServesAndCleansUp(t *testing.T) {
	path := filepath.Join(shortDir(t), "new", "deeper", "s.sock")
	b := mustBind(t, path)
	for name, want := range map[string]fs.FileMode{path: 0o600, path + ".lock": 0o600, filepath.Dir(path): 0o700, filepath.Dir(filepath.Dir(path)): 0o700} {
		if fi, err := os.Lstat(name); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v; want %v", name, fi.Mode().Perm(), err, want)
		}
	}
	if err := b.Check(); err != nil {
		t.Errorf("Check: %v", err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()

	for range 2 {
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("socket file after Close: %v", err)
	}
	if lock, err := os.ReadFile(path + ".lock"); err != nil || len(lock) != 0 {
		t.Errorf("lock file after Close: %q, %v", lock, err)
	}
	mustBind(t, path)
}

func TestBindReportsTheOwner(t *testing.T) {
	dir := shortDir(t)
	locked := filepath.Join(dir, "locked.sock")
	mustBind(t, locked)

	// A broker that knows no lock file, as v1's.
	plain := filepath.Join(dir, "plain.sock")
	l, err := net.Listen("unix", plain)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	for _, path := range []string{locked, plain} {
		_, err := Bind(path)
		var inUse *InUseError
		if !errors.As(err, &inUse) || inUse.Path != path {
			t.Fatalf("%s: error %v, want *InUseError", path, err)
		}
		if inUse.PID != os.Getpid() && (path == locked || runtime.GOOS == "linux") {
			t.Errorf("%s: owner pid %d, want %d", path, inUse.PID, os.Getpid())
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%s: the live socket is gone: %v", path, err)
		}
	}
}

func TestBindTakesOverAStaleSocket(t *testing.T) {
	path := filepath.Join(shortDir(t), "s.sock")
	makeStale(t, path)
	mustBind(t, path)
	if conn, err := net.Dial("unix", path); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
}

func TestBindRefusesWhatIsNoSocket(t *testing.T) {
	for kind, make := range map[string]func(path string) error{
		"regular file":  func(p string) error { return os.WriteFile(p, []byte("keep"), 0o600) },
		"directory":     func(p string) error { return os.Mkdir(p, 0o700) },
		"symbolic link": func(p string) error { return os.Symlink("elsewhere", p) },
	} {
		path := filepath.Join(shortDir(t), "s.sock")
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		_, err := Bind(path)
		var not *NotSocketError
		if !errors.As(err, &not) || not.Kind != kind {
			t.Errorf("%s: error %v, want *NotSocketError", kind, err)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%s was removed: %v", kind, err)
		}
		// The refusal must have let go of the lock.
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		mustBind(t, path)
	}
}

func TestBindRefusesALongPathBeforeTouchingAnything(t *testing.T) {
	dir := filepath.Join(shortDir(t), "sub")
	_, err := Bind(filepath.Join(dir, strings.Repeat("n", 108)))
	var long *PathTooLongError
	if !errors.As(err, &long) {
		t.Errorf("error %v, want *PathTooLongError", err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory was created: %v", err)
	}
}

func TestReplacedSocketIsNoticedAndLeftAlone(t *testing.T) {
	path := filepath.Join(shortDir(t), "s.sock")
	b := mustBind(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := b.Check(); !errors.Is(err, ErrReplaced) {
		t.Errorf("removed: Check = %v", err)
	}
	makeStale(t, path)
	if err := b.Check(); !errors.Is(err, ErrReplaced) {
		t.Errorf("replaced: Check = %v", err)
	}
	if err := b.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("someone else's socket was removed: %v", err)
	}
}

func TestReplacedLockFileIsNotTrusted(t *testing.T) {
	path := filepath.Join(shortDir(t), "s.sock")
	old := mustBind(t, path)
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err)
	}
	// The old owner's lock no longer protects the name, the live probe still does.
	var inUse *InUseError
	if _, err := Bind(path); !errors.As(err, &inUse) {
		t.Errorf("error %v, want *InUseError", err)
	}
	if err := old.Close(); err != nil {
		t.Error(err)
	}
}

func TestUnlinkKeepsTheQueue(t *testing.T) {
	path := filepath.Join(shortDir(t), "s.sock")
	b := mustBind(t, path)
	queued, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer queued.Close()
	for range 2 {
		if err := b.Unlink(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := net.Dial("unix", path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("dial after Unlink: %v", err)
	}
	conn, err := b.Listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	var inUse *InUseError
	if _, err := Bind(path); !errors.As(err, &inUse) {
		t.Errorf("a successor bound while the predecessor drains: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	mustBind(t, path)
}

func TestBindBackend(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", shortDir(t))
	t.Setenv("TMPDIR", os.Getenv("XDG_RUNTIME_DIR"))
	a, err := BindBackend("")
	if err != nil {
		t.Fatal(err)
	}
	b, err := BindBackend("")
	if err != nil {
		t.Fatal(err)
	}
	if a.Path == b.Path {
		t.Errorf("both backends got %s", a.Path)
	}
	if err := errors.Join(a.Close(), b.Close()); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Dir(a.Path)); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	given := filepath.Join(shortDir(t), "own.sock")
	c, err := BindBackend(given)
	if err != nil || c.Path != given {
		t.Fatalf("given path: %v, %v", c, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestRelativePathIsMadeAbsolute: a registration tells it to the broker, and this
// process may go to another directory.
func TestRelativePathIsMadeAbsolute(t *testing.T) {
	dir, err := filepath.EvalSymlinks(shortDir(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	b, err := BindBackend("own.sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	t.Chdir("/")
	if err := b.Check(); b.Path != filepath.Join(dir, "own.sock") || err != nil {
		t.Errorf("path %s, %v", b.Path, err)
	}
}

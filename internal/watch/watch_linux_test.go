//go:build linux && !usher_portable

package watch_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/watch"
)

// TestChanged: whatever leads elsewhere or reads differently is told, by the first
// question after it; and nothing else is.
func TestChanged(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"written in place":    func(d string) error { return os.WriteFile(d+"/real/sub/file", []byte("two"), 0o600) },
		"truncated":           func(d string) error { return os.Truncate(d+"/real/sub/file", 0) },
		"replaced":            func(d string) error { return os.Rename(d+"/other/sub/file", d+"/real/sub/file") },
		"removed":             func(d string) error { return os.Remove(d + "/real/sub/file") },
		"mode":                func(d string) error { return os.Chmod(d+"/real/sub/file", 0o400) },
		"mode of a directory": func(d string) error { return os.Chmod(d+"/real", 0o755) },
		"directory moved":     func(d string) error { return os.Rename(d+"/real/sub", d+"/real/gone") },
		"directories swapped": func(d string) error { return exchange(d+"/real", d+"/other") },
		"link replaced": func(d string) error {
			if err := os.Symlink("other", d+"/link.new"); err != nil {
				return err
			}
			return os.Rename(d+"/link.new", d+"/link")
		},
		"a link in the chain": func(d string) error { return os.Remove(d + "/relative/second") },
		"a name in it":        func(d string) error { return os.WriteFile(d+"/real/whole/new", nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			dir := t.TempDir()
			build(t, dir)
			w, err := watch.New()
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			if err := w.Add(dir+"/link/sub/file", dir+"/link/whole"); err != nil {
				t.Fatal(err)
			}
			quiet(t, w)
			if _, err := os.ReadFile(dir + "/link/sub/file"); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(dir+"/beside", nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if w.Changed() {
				t.Error("reading, or a file beside the way, counts as a change")
			}
			if err := change(dir); err != nil {
				t.Fatal(err)
			}
			if !w.Changed() {
				t.Error("not told")
			}
		})
	}
}

// build makes two trees and a chain of links to the file in the first:
// link → relative/../relative/second → real.
func build(t *testing.T, dir string) {
	t.Helper()
	for _, d := range []string{"real/sub", "real/whole", "other/sub", "relative"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"real/sub/file", "other/sub/file"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("one"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		os.Symlink(filepath.Join(dir, "real"), filepath.Join(dir, "relative/second")),
		os.Symlink("relative/../relative/second", filepath.Join(dir, "link")),
	); err != nil {
		t.Fatal(err)
	}
}

// quiet waits until what others do beside the tests' directories is over.
func quiet(t *testing.T, w *watch.Watch) {
	t.Helper()
	for range 1000 {
		if !w.Changed() {
			return
		}
	}
	t.Fatal("the watch never says that nothing changed")
}

func TestAddFails(t *testing.T) {
	testutil.Leaks(t)
	w, err := watch.New()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	dir := t.TempDir()
	if err := os.Symlink("loop", dir+"/loop"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"relative", dir + "/missing", dir + "/loop"} {
		if err := w.Add(path); err == nil {
			t.Errorf("%s is watched", path)
		}
	}
	if err := w.Add(dir + "/missing"); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("a missing file: %v", err)
	}
}

// TestContent: writes to a file are told, by whatever name; what happens beside it, and
// behind RemoveContent, is not.
func TestContent(t *testing.T) {
	testutil.Leaks(t)
	w, err := watch.New()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	dir := t.TempDir()
	f, err := os.Create(dir + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := w.AddContent(f.Name()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(dir+"/beside", []byte("x"), 0o600), os.Chmod(f.Name(), 0o400), os.Rename(f.Name(), dir+"/moved")); err != nil {
		t.Fatal(err)
	}
	if w.Changed() {
		t.Error("what is no write counts as one")
	}
	for range 1000 {
		if _, err := f.WriteString("x"); err != nil {
			t.Fatal(err)
		}
	}
	if !w.Changed() || w.Changed() {
		t.Error("writes are not told once")
	}
	w.RemoveContent(f.Name())
	quiet(t, w)
	if _, err := f.WriteString("x"); err != nil || w.Changed() {
		t.Error("told behind the end of the watch", err)
	}
	if err := w.AddContent(dir + "/none"); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("a missing file: %v", err)
	}
}

// TestAddName: what comes where nothing was is told, and so is that it goes.
func TestAddName(t *testing.T) {
	testutil.Leaks(t)
	w, err := watch.New()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	dir := t.TempDir()
	file := dir + "/missing"
	if err := w.AddName(dir + "/missing/below"); err == nil {
		t.Error("a name in a directory that is not there is watched")
	}
	for _, change := range []func() error{
		func() error { return os.WriteFile(file, nil, 0o600) },
		func() error { return os.Remove(file) },
	} {
		if err := w.AddName(file); err != nil {
			t.Fatal(err)
		}
		quiet(t, w)
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if !w.Changed() {
			t.Error("not told")
		}
	}
}

// TestWait: it waits for a change, past what happens to others, and no longer than its
// context.
func TestWait(t *testing.T) {
	testutil.Leaks(t)
	w, err := watch.NewWaiter()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	dir := t.TempDir()
	file := dir + "/sub/file"
	if err := errors.Join(os.Mkdir(dir+"/sub", 0o700), os.WriteFile(file, nil, 0o600), w.Add(file)); err != nil {
		t.Fatal(err)
	}
	quiet(t, w.Watch)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Wait(ctx) }()
	if err := errors.Join(os.WriteFile(dir+"/sub/other", nil, 0o600), os.Remove(file)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	quiet(t, w.Watch)
	go func() { done <- w.Wait(ctx) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// exchange swaps two names in one step.
func exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}

//go:build unix

package endpoint

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// hide makes the directory unreachable for a moment, for root too: a symbolic
// link to itself stands in its place.
func hide(t *testing.T, dir string) (restore func()) {
	t.Helper()
	if err := errors.Join(os.Rename(dir, dir+".away"), os.Symlink(dir, dir)); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := errors.Join(os.Remove(dir), os.Rename(dir+".away", dir)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUnreadableSocketIsNotReplaced: a name that can't be looked at now says
// nothing about who has it; and it is removed once that works again.
func TestUnreadableSocketIsNotReplaced(t *testing.T) {
	for name, end := range map[string]func(*Binding) error{"Unlink": (*Binding).Unlink, "Close": (*Binding).Close} {
		dir := filepath.Join(shortDir(t), "run")
		b := mustBind(t, filepath.Join(dir, "s.sock"))
		restore := hide(t, dir)
		if err := b.Check(); err == nil || errors.Is(err, ErrReplaced) {
			t.Errorf("hidden: Check = %v", err)
		}
		if err := b.Unlink(); err == nil || errors.Is(err, ErrReplaced) {
			t.Errorf("hidden: Unlink = %v", err)
		}
		restore()
		if err := b.Check(); err != nil {
			t.Errorf("back again: Check = %v", err)
		}
		if err := end(b); err != nil {
			t.Errorf("back again: %s = %v", name, err)
		}
		if _, err := os.Lstat(b.Path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s left the socket behind: %v", name, err)
		}
	}
}

// TestCloseOfAnUnreadableSocketLetsGo: what can't be removed must not keep the
// listener and the lock.
func TestCloseOfAnUnreadableSocketLetsGo(t *testing.T) {
	dir := filepath.Join(shortDir(t), "run")
	b := mustBind(t, filepath.Join(dir, "s.sock"))
	restore := hide(t, dir)
	if err := b.Close(); err == nil {
		t.Error("Close says nothing of the name that it left")
	}
	restore()
	mustBind(t, b.Path) // takes over the dead socket
}

// TestFileInPlaceOfTheDirectoryIsReplaced: no name can lead through a file.
func TestFileInPlaceOfTheDirectoryIsReplaced(t *testing.T) {
	dir := filepath.Join(shortDir(t), "run")
	b := mustBind(t, filepath.Join(dir, "s.sock"))
	if err := errors.Join(os.Rename(dir, dir+".away"), os.WriteFile(dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := b.Check(); !errors.Is(err, ErrReplaced) {
		t.Errorf("Check = %v", err)
	}
	if err := b.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
}

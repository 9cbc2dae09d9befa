package endpoint

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFullFileSystemKeepsNobodyFromBinding: the pid in the lock file is for people
// alone. A socket and an empty file take no room, only names.
func TestFullFileSystemKeepsNobodyFromBinding(t *testing.T) {
	dir := filepath.Join(shortDir(t), "full")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4k,mode=700"); err != nil {
		t.Skipf("no file system of its own to fill: %v", err) // takes root
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the file system takes 1 MiB: %v", err)
	}
	b := mustBind(t, filepath.Join(dir, "s.sock"))
	if err := b.Check(); err != nil {
		t.Error(err)
	}
	// Still the only owner, whom a second one can't name from the file.
	var inUse *InUseError
	if _, err := Bind(b.Path); !errors.As(err, &inUse) {
		t.Errorf("second Bind: %v, want *InUseError", err)
	}
	if err := b.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

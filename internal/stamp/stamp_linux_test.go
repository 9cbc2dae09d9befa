package stamp_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/stamp"
)

// TestChangesShow: whatever is done to a settled file, its stamp tells.
func TestChangesShow(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"written in place": func(p string) error { return os.WriteFile(p, []byte("two"), 0o600) },
		"replaced": func(p string) error {
			if err := os.WriteFile(p+".new", []byte("two"), 0o600); err != nil {
				return err
			}
			return os.Rename(p+".new", p)
		},
		"mode":    func(p string) error { return os.Chmod(p, 0o640) },
		"touched": func(p string) error { return os.Chtimes(p, time.Time{}, time.Unix(1, 0)) },
		"removed": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, []byte("one"), 0o600); err != nil {
				t.Fatal(err)
			}
			for !stamp.Of(path).Settled(time.Now()) { // ends when the file has aged
				if stamp.Of(path) == (stamp.Stamp{}) {
					t.Fatal("no stamp")
				}
			}
			before := stamp.Of(path)
			if before != stamp.Of(path) {
				t.Error("the stamp changes by itself")
			}
			if err := change(path); err != nil {
				t.Fatal(err)
			}
			if stamp.Of(path) == before {
				t.Error("the change does not show")
			}
		})
	}
}

// TestFreshIsNotSettled: two changes within one tick of the clock could share a
// stamp.
func TestFreshIsNotSettled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if stamp.Of(path).Settled(time.Now()) {
		t.Error("a file just written is settled")
	}
	if (stamp.Stamp{}).Settled(time.Now()) {
		t.Error("no file is settled")
	}
}

func TestLocal(t *testing.T) {
	if stamp.Local(filepath.Join(t.TempDir(), "missing")) {
		t.Error("a file that is not there")
	}
	if !stamp.Local("/proc/self") {
		t.Error("the kernel's own file system")
	}
}

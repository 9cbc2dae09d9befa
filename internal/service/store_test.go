package service

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-7265657e/usher/internal/wire"
)

func TestListSaveRemove(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "services")
	if all, err := List(dir); err != nil || all != nil {
		t.Errorf("missing directory: %v, %v", all, err)
	}
	second := demo()
	second.ServiceName = "b"
	for _, d := range []*wire.ServiceDefinition{second, demo(), demo()} { // the last one replaces
		if _, err := Save(dir, d, Binary); err != nil {
			t.Fatal(err)
		}
	}
	if fi, err := os.Stat(filepath.Join(dir, "b.servicedef")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("file mode: %v, %v", fi.Mode(), err)
	}
	var conflict *ConflictError
	if _, err := Save(dir, demo(), TOML); !errors.As(err, &conflict) {
		t.Errorf("second format: %v", err)
	}
	for name, content := range map[string]string{"bad.toml": "x = 1", "b.servicedef123": "rest of a crash", "README": "text"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all, err := List(dir)
	if err != nil || len(all) != 3 {
		t.Fatalf("List: %v, %v", all, err)
	}
	for i, name := range []string{"b", "bad", "demo-svc"} {
		if all[i].Name != name || (all[i].Err != nil) != (name == "bad") || (all[i].Definition == nil) != (name == "bad") {
			t.Errorf("entry %d: %+v", i, all[i])
		}
	}
	if err := Remove(dir, "b"); err != nil {
		t.Error(err)
	}
	if err := Remove(dir, "b"); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "b.servicedef")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the file is still there")
	}
}

func TestSaveRefusesWhatLoadWould(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "services")
	relative := demo()
	relative.BinaryPath = "rel"
	var path *PathError
	if _, err := Save(dir, relative, TOML); !errors.As(err, &path) {
		t.Errorf("relative path: %v", err)
	}
	label := demo()
	label.Labels = map[string]string{labelEnabled: "yes"}
	var bad *LabelError
	if _, err := Save(dir, label, TOML); !errors.As(err, &bad) {
		t.Errorf("bad label: %v", err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a refused definition touched the disk")
	}
}

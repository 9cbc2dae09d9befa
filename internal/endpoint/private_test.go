//go:build unix

package endpoint

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBindJudgesTheDirectory(t *testing.T) {
	chmod := func(mode fs.FileMode) func(string) error {
		return func(dir string) error {
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			return os.Chmod(dir, mode)
		}
	}
	for _, c := range []struct {
		name  string
		setUp func(dir string) error
		says  string
	}{
		{"group may enter", chmod(0o710), "chmod 700"},
		{"others may read", chmod(0o755), "chmod 700"},
		{"read only", chmod(0o500), "instead of 0700"},
		{"symlink", func(dir string) error {
			if err := os.Mkdir(dir+".real", 0o700); err != nil {
				return err
			}
			return os.Symlink(dir+".real", dir)
		}, "symbolic link"},
		{"file", func(dir string) error { return os.WriteFile(dir, nil, 0o600) }, "not a directory"},
		{"foreign", func(dir string) error {
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			return os.Chown(dir, os.Geteuid()+1, -1)
		}, "belongs to uid"},
		{"everyone may swap it", func(dir string) error {
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			return os.Chmod(filepath.Dir(dir), 0o777)
		}, "chmod go-w"},
	} {
		dir := filepath.Join(shortDir(t), "run")
		if err := c.setUp(dir); errors.Is(err, fs.ErrPermission) {
			t.Logf("%s: needs root", c.name)
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		_, err := Bind(filepath.Join(dir, "s.sock"))
		var insecure *InsecureDirError
		if !errors.As(err, &insecure) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want *InsecureDirError saying %q", c.name, err, c.says)
		}
		err = EnsureState(dir)
		if above := c.name == "everyone may swap it"; above == (err != nil) || !above && (!errors.As(err, &insecure) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s, for state: error %v, want *InsecureDirError saying %q", c.name, err, c.says)
		}
	}
}

// TestEnsureState: what is missing is made, for the user alone.
func TestEnsureState(t *testing.T) {
	dir := filepath.Join(shortDir(t), "a", "b")
	for range 2 {
		if err := EnsureState(dir); err != nil {
			t.Fatal(err)
		}
	}
	for _, made := range []string{dir, filepath.Dir(dir)} {
		if fi, err := os.Stat(made); err != nil || fi.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", made, fi, err)
		}
	}
}

func TestPrivateDirectories(t *testing.T) {
	dir := filepath.Join(shortDir(t), "a", "b")
	if err := CheckPrivate(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if err := EnsurePrivate(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	var insecure *InsecureDirError
	if err := CheckPrivate(dir); !errors.As(err, &insecure) || insecure.Path != dir {
		t.Errorf("group-readable: %v", err)
	}
	if err := EnsurePrivate(dir); err != nil {
		t.Errorf("EnsurePrivate did not repair: %v", err)
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if err := CheckPrivate(dir); err != nil {
		t.Errorf("mode 0500 is private: %v", err)
	}
}

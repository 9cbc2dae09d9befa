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

func TestJudgeLevel(t *testing.T) {
	const self, other = 1000, 1001
	for _, c := range []struct {
		name string
		mode fs.FileMode
		uid  int
		says string
	}{
		{"own", fs.ModeDir | 0o755, self, ""},
		{"root's", fs.ModeDir | 0o755, 0, ""},
		{"another's", fs.ModeDir | 0o755, other, "belongs to uid 1001"},
		{"unknown owner", fs.ModeDir | 0o755, -1, "belongs to uid -1"},
		{"own, group may write", fs.ModeDir | 0o775, self, "chmod g-w"},
		{"own, sticky", fs.ModeDir | fs.ModeSticky | 0o777, self, ""},
		{"root's, group may write", fs.ModeDir | 0o775, 0, ""},
		{"root's, all may write", fs.ModeDir | 0o777, 0, "chmod go-w"},
		{"root's, sticky", fs.ModeDir | fs.ModeSticky | 0o777, 0, ""},
		{"another's, sticky", fs.ModeDir | fs.ModeSticky | 0o777, other, "directory of your own"},
		{"own link", fs.ModeSymlink | 0o777, self, ""},
		{"another's link", fs.ModeSymlink | 0o777, other, "belongs to uid 1001"},
	} {
		err := judgeLevel("/d", c.mode, c.uid, self)
		var insecure *InsecureDirError
		if c.says == "" && err != nil || c.says != "" && (!errors.As(err, &insecure) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: error %v, want one saying %q", c.name, err, c.says)
		}
	}
}

// TestBindJudgesEveryLevel opens one directory on the way to the socket to
// everyone, however far above and whichever link leads through it.
func TestBindJudgesEveryLevel(t *testing.T) {
	for _, c := range []struct {
		name   string
		open   string
		links  map[string]string // link → target
		socket string
		fine   bool
	}{
		{name: "nothing is open", socket: "a/b/c/s.sock", fine: true},
		{name: "far above", open: "a", socket: "a/b/c/s.sock"},
		{name: "above what is still missing", open: "a", socket: "a/b/c/new/deeper/s.sock"},
		{name: "beside the way", open: "x", socket: "a/b/c/s.sock", fine: true},
		{name: "a good link", links: map[string]string{"l": "a/b"}, socket: "l/c/s.sock", fine: true},
		{name: "above a link's target", open: "a", links: map[string]string{"l": "a/b"}, socket: "l/c/s.sock"},
		{name: "above an absolute link's target", open: "a", links: map[string]string{"l": "/a/b"}, socket: "l/c/s.sock"},
		{name: "holds a link of the way", open: "x", links: map[string]string{"l": "x/l", "x/l": "../a/b"}, socket: "l/c/s.sock"},
	} {
		t.Run(c.name, func(t *testing.T) {
			top := shortDir(t)
			for _, dir := range []string{"a/b/c", "x"} {
				if err := os.MkdirAll(filepath.Join(top, dir), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			for link, target := range c.links {
				if filepath.IsAbs(target) {
					target = top + target
				}
				if err := os.Symlink(target, filepath.Join(top, link)); err != nil {
					t.Fatal(err)
				}
			}
			if c.open != "" {
				if err := os.Chmod(filepath.Join(top, c.open), 0o777); err != nil {
					t.Fatal(err)
				}
			}
			if c.fine {
				mustBind(t, filepath.Join(top, c.socket))
				return
			}
			_, err := Bind(filepath.Join(top, c.socket))
			var insecure *InsecureDirError
			if !errors.As(err, &insecure) || filepath.Base(insecure.Path) != c.open || !strings.Contains(err.Error(), "chmod go-w") {
				t.Errorf("error %v, want *InsecureDirError about %s", err, c.open)
			}
			if _, err := os.Lstat(filepath.Join(top, "a/b/c/new")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a directory was made below an open one: %v", err)
			}
		})
	}
}

func TestBindFollowsNoLinkForever(t *testing.T) {
	top := shortDir(t)
	if err := os.Symlink("loop", filepath.Join(top, "loop")); err != nil {
		t.Fatal(err)
	}
	_, err := Bind(filepath.Join(top, "loop", "run", "s.sock"))
	if insecure := (*InsecureDirError)(nil); !errors.As(err, &insecure) {
		t.Errorf("error %v, want *InsecureDirError", err)
	}
}

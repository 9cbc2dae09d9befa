//go:build linux || darwin

package usage

import (
	"errors"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// CountInodes counts the inodes of the file system of dir, or of the nearest
// directory above it that exists.
func CountInodes(dir string) Inodes {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		switch above := filepath.Dir(dir); {
		case err == nil:
			return Inodes{Total: st.Files, Free: st.Ffree}
		case errors.Is(err, unix.EINTR):
		case !errors.Is(err, unix.ENOENT) || above == dir:
			return Inodes{Problem: err.Error()}
		default:
			dir = above
		}
	}
}

//go:build !linux && !darwin && !freebsd && !openbsd && !netbsd && !dragonfly

package filehash

import (
	"io/fs"
	"time"
)

// fileKey is what v1 itself compares: path, size and modification time. The
// portable file information has no inode.
type fileKey struct {
	path  string
	size  int64
	mtime int64 // nanoseconds since 1970
}

func keyOf(path string, fi fs.FileInfo) fileKey {
	return fileKey{path: path, size: fi.Size(), mtime: fi.ModTime().UnixNano()}
}

// changed is the modification time.
func (k fileKey) changed() time.Time { return time.Unix(0, k.mtime) }

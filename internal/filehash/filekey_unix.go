//go:build linux || darwin || freebsd || openbsd || netbsd || dragonfly

package filehash

import (
	"io/fs"
	"syscall"
	"time"
)

// fileKey changes whenever the content of a file may have changed.
type fileKey struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

func keyOf(_ string, fi fs.FileInfo) fileKey {
	key := fileKey{size: fi.Size()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		key.dev, key.ino = uint64(st.Dev), st.Ino
		key.mtime, key.ctime = changeTimes(st)
	}
	return key
}

// changed is the later of both change times.
func (k fileKey) changed() time.Time { return time.Unix(0, max(k.mtime.Nano(), k.ctime.Nano())) }

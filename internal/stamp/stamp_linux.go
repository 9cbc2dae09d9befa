package stamp

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock/rawsys"
)

// Of returns the stamp of the file at path, symbolic links followed; the zero
// Stamp when there is none, or it can't be asked. Ask Local first, once: a file
// system that does not answer would keep more than the caller waiting.
func Of(path string) Stamp {
	var st unix.Stat_t
	if rawsys.Stat(path, &st) != nil {
		return Stamp{}
	}
	return of(&st)
}

// OfFile is Of for a file that is open, whatever its path leads to by now. It stays the
// caller's.
func OfFile(f *os.File) (s Stamp) {
	raw, err := f.SyscallConn()
	if err != nil {
		return s
	}
	_ = raw.Control(func(fd uintptr) {
		var st unix.Stat_t
		if unix.Fstat(int(fd), &st) == nil {
			s = of(&st)
		}
	})
	return s
}

func of(st *unix.Stat_t) Stamp {
	return Stamp{
		dev: uint64(st.Dev), ino: st.Ino, size: uint64(st.Size), mode: st.Mode, uid: st.Uid,
		changed: st.Ctim.Nano(), edited: st.Mtim.Nano(),
	}
}

// remote are the file systems whose answer may never come.
var remote = map[int64]bool{
	unix.NFS_SUPER_MAGIC: true, unix.SMB_SUPER_MAGIC: true, unix.SMB2_SUPER_MAGIC: true, unix.CIFS_SUPER_MAGIC: true,
	unix.FUSE_SUPER_MAGIC: true, unix.V9FS_MAGIC: true, unix.AFS_SUPER_MAGIC: true, unix.AFS_FS_MAGIC: true,
	unix.CEPH_SUPER_MAGIC: true, unix.CODA_SUPER_MAGIC: true, unix.NCP_SUPER_MAGIC: true, unix.AUTOFS_SUPER_MAGIC: true,
}

// Local reports whether asking for the file at path waits for this machine alone:
// it lies on no network or user-space file system.
func Local(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && !remote[int64(fs.Type)]
}

//go:build linux || openbsd || dragonfly

package filehash

import "syscall"

// changeTimes are when the content was changed, and when anything was.
func changeTimes(st *syscall.Stat_t) (mtime, ctime syscall.Timespec) { return st.Mtim, st.Ctim }

//go:build unix

package usage

import "syscall"

// Limit returns the limit in force (RLIMIT_NOFILE), and false where there is none
// that could be read.
func Limit() (int, bool) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, false
	}
	const most = 1 << 30 // as good as none
	return int(min(uint64(limit.Cur), most)), true
}

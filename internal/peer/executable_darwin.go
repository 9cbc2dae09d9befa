package peer

import (
	"bytes"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// executableOf is proc_pidpath(3) of libproc, as the system call below it (xnu,
// bsd/kern/proc_info.c).
func executableOf(pid int) (string, error) {
	const (
		callPIDInfo = 2    // PROC_INFO_CALL_PIDINFO
		pathInfo    = 11   // PROC_PIDPATHINFO
		most        = 4096 // PROC_PIDPATHINFO_MAXSIZE
	)
	buf := make([]byte, most)
	_, _, errno := syscall.Syscall6(unix.SYS_PROC_INFO, callPIDInfo, uintptr(pid), pathInfo, 0, uintptr(unsafe.Pointer(&buf[0])), most)
	if errno != 0 {
		return "", errno
	}
	path, _, _ := bytes.Cut(buf, []byte{0})
	if len(path) == 0 {
		return "", unix.ENOENT
	}
	return string(path), nil
}

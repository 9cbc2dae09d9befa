package peer

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// executableOf is proc_pidpath(3) of libproc.
func executableOf(pid int) (string, error) {
	const (
		pathInfo = 11   // PROC_PIDPATHINFO
		most     = 4096 // PROC_PIDPATHINFO_MAXSIZE
	)
	buf := make([]byte, most)
	if err := processInfo(pid, pathInfo, buf); err != nil {
		return "", err
	}
	path, _, _ := bytes.Cut(buf, []byte{0})
	if len(path) == 0 {
		return "", unix.ENOENT
	}
	return string(path), nil
}

// checkBuild is nil where the file at path is of the build that the process runs: the kernel
// has read the UUID of that from the file as it was at the start, and may give the path of a
// file that was replaced as long as there is one. What was built without is not told apart.
func checkBuild(pid int, path string) error {
	const (
		uniqueInfo = 17 // PROC_PIDUNIQIDENTIFIERINFO
		size       = 56 // of struct proc_uniqidentifierinfo, which begins with the UUID
	)
	info := make([]byte, size)
	if err := processInfo(pid, uniqueInfo, info); err != nil {
		return err
	}
	runs := buildID(info[:len(buildID{})])
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	there, err := buildIDs(file)
	if err != nil {
		return fmt.Errorf("build of %s: %w", path, err)
	}
	if !slices.Contains(there, runs) {
		return fmt.Errorf("process %d runs another build than %s is by now", pid, path)
	}
	return nil
}

// processInfo is proc_pidinfo(3), as the system call below it (xnu, bsd/kern/proc_info.c).
func processInfo(pid int, flavor uintptr, buf []byte) error {
	const callPIDInfo = 2 // PROC_INFO_CALL_PIDINFO
	_, _, errno := syscall.Syscall6(unix.SYS_PROC_INFO, callPIDInfo, uintptr(pid), flavor, 0, uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
	if errno != 0 {
		return errno
	}
	return nil
}

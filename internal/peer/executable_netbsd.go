package peer

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// executableOf asks for kern.proc_args with KERN_PROC_PATHNAME (sysctl(7)).
func executableOf(pid int) (string, error) {
	const pathname = 5
	buf, err := unix.SysctlRaw("kern.proc_args", pid, pathname)
	if err != nil {
		return "", err
	}
	path, _, _ := bytes.Cut(buf, []byte{0})
	if len(path) == 0 {
		return "", unix.ENOENT
	}
	return string(path), nil
}

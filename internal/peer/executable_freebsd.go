package peer

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// executableOf asks for kern.proc.pathname (sysctl(3)).
func executableOf(pid int) (string, error) {
	buf, err := unix.SysctlRaw("kern.proc.pathname", pid)
	if err != nil {
		return "", err
	}
	path, _, _ := bytes.Cut(buf, []byte{0})
	if len(path) == 0 { // the kernel has forgotten the name
		return "", unix.ENOENT
	}
	return string(path), nil
}

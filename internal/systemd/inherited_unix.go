//go:build unix

package systemd

import (
	"os"
	"syscall"
)

// inherited owns a descriptor that came through an exec, and keeps it from children.
func inherited(fd int, name string) *os.File {
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), name)
}

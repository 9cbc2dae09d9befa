package launch

import (
	"os"

	"golang.org/x/sys/unix"
)

// hasCapabilities reports whether f gives who runs it rights beyond his own, or may do so
// for all that can be told.
func hasCapabilities(f *os.File) (has bool) {
	raw, err := f.SyscallConn()
	if err != nil {
		return true
	}
	ctlErr := raw.Control(func(fd uintptr) {
		_, err = unix.Fgetxattr(int(fd), "security.capability", nil)
	})
	switch {
	case ctlErr != nil:
		return true
	case err == nil, err == unix.EIO:
		return true
	}
	return false // there is none, or the file system has no such attribute
}

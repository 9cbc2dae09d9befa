package launch

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// CloseStray closes the descriptors that this process got from whoever started it, but
// for the standard ones, keep, and those that it has opened itself since: Go opens
// everything close-on-exec, and what came through an exec is not. A daemon calls it first
// of all, so that it holds no pipe that somebody waits for.
func CloseStray(keep ...int) error {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("close what was inherited: %w", err)
	}
	for _, d := range open {
		fd, err := strconv.Atoi(d.Name())
		if err != nil || fd < firstInherited || slices.Contains(keep, fd) {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
	return nil
}

//go:build unix && (!linux || usher_portable)

package launch

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// mostStray bounds what CloseStray looks at: a process may be allowed a million descriptors.
const mostStray = 1 << 16

// CloseStray closes the descriptors that this process got from whoever started it, but
// for the standard ones, keep, and those that it has opened itself since: Go opens
// everything close-on-exec, and what came through an exec is not. A daemon calls it first
// of all, so that it holds no pipe that somebody waits for. Descriptors from 65,536 on are
// left alone.
func CloseStray(keep ...int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("close what was inherited: %w", err)
	}
	for fd := firstInherited; fd < int(min(uint64(limit.Cur), mostStray)); fd++ {
		if slices.Contains(keep, fd) {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
	return nil
}

// Duplicate gives f a descriptor more, which the caller closes.
func Duplicate(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	own := -1
	ctlErr := raw.Control(func(fd uintptr) { own, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if err := errors.Join(ctlErr, err); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(own), f.Name()), nil
}

// Lacks names what Linux has for this package and this system has not, for people.
func Lacks() []string {
	return []string{
		"links to the files that run (a build whose file was replaced is not started again, nor known to the next broker)",
		"holding a program before its first instruction (its client sees an end where it can't run)",
		"usher run without --stdio",
	}
}

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

// program stands for an opened executable, which these systems run by its path alone.
type program struct{}

// errReplaced says that another file has the path of the one that is to run.
var errReplaced = errors.New("it was replaced, and this system runs what is at the path")

// reopen checks that path leads to f still. That another file comes there before the child
// runs it goes unseen.
func reopen(f *os.File, path string, _ []*os.File) (program, error) {
	mine, err := f.Stat()
	if err != nil {
		return program{}, err
	}
	there, err := os.Stat(path)
	if err != nil {
		return program{}, err
	}
	if !os.SameFile(mine, there) {
		return program{}, fmt.Errorf("%s: %w", path, errReplaced)
	}
	return program{}, nil
}

func (program) path(own string) string { return own }

func (program) close() {}

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

// SetName does nothing: these systems name a process by its file.
func SetName(string) {}

// OwnImage is path: nothing leads to the file itself.
func OwnImage(path string) string { return path }

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

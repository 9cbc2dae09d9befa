//go:build linux && !usher_portable

package launch

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock/rawsys"
)

// program is an opened executable under a number that no descriptor of the child has.
type program int

// reopen lends f under a number that the child of these files does not use before it runs
// it. The caller closes it.
//
// The child moves its files to the numbers from 0 on; on the way it puts those that are in
// the way, and the pipe that tells of a failure, on the numbers behind the highest of them
// (package syscall, forkAndExecInChild), whatever has these.
func reopen(f *os.File, _ string, files []*os.File) (program, error) {
	highest := len(files)
	for _, file := range files {
		if err := withNumber(file, func(fd int) error { highest = max(highest, fd); return nil }); err != nil {
			return 0, err
		}
	}
	n := 0
	err := withNumber(f, func(fd int) (err error) {
		n, err = rawsys.Duplicate(fd, highest+len(files)+3) // the first behind, the pipe twice
		if err == unix.EINVAL {                             // above the limit
			err = unix.EMFILE
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("open the program again: %w", err)
	}
	return program(n), nil
}

// withNumber calls use with the number of f.
func withNumber(f *os.File, use func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var useErr error
	if err := raw.Control(func(fd uintptr) { useErr = use(int(fd)) }); err != nil {
		return err
	}
	return useErr
}

// path leads to the open file, whatever the path that it had leads to. It is good in
// children of this process, until they run it.
func (p program) path(string) string { return "/proc/self/fd/" + strconv.Itoa(int(p)) }

func (p program) close() { _ = unix.Close(int(p)) }

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

// SetName gives the process the name that ps shows, of which the kernel keeps 15 bytes.
// One that was started from an open file is else called by a number.
func SetName(name string) { _ = os.WriteFile("/proc/self/comm", []byte(name), 0) }

// OwnImage leads to the file that this process runs, whatever path leads to by now.
func OwnImage(string) string { return "/proc/self/exe" }

// Duplicate opens f once more, with a descriptor of its own, which the caller closes.
func Duplicate(f *os.File) (*os.File, error) {
	p, err := reopen(f, "", nil)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(p), f.Name()), nil
}

// Lacks names what Linux has for this package and this system has not, for people.
func Lacks() []string { return nil }

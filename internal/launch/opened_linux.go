package launch

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// program is an opened executable under a number that no descriptor of the child has.
type program int

// reopen lends f under a number of at least above. The caller closes it.
func reopen(f *os.File, above int) (program, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var n int
	var dupErr error
	err = raw.Control(func(fd uintptr) { n, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, above) })
	if err == nil {
		err = dupErr
	}
	if err != nil {
		return 0, fmt.Errorf("open the program again: %w", err)
	}
	return program(n), nil
}

// path leads to the open file, whatever the path that it had leads to. It is good in
// children of this process, until they run it.
func (p program) path(string) string { return "/proc/self/fd/" + strconv.Itoa(int(p)) }

func (p program) close() { _ = unix.Close(int(p)) }

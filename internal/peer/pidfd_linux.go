package peer

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/rawsys"
)

// pidfd is readable from the moment on at which the process has ended.
type pidfd struct{ file *os.File }

// ownPidfd makes a handle of fd, and owns it.
func ownPidfd(pid, fd int) (handle, error) {
	// Non-blocking, so that the runtime polls it instead of parking a thread.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return pidfd{os.NewFile(uintptr(fd), "pidfd:"+strconv.Itoa(pid))}, nil
}

func (p pidfd) exited() (ended bool, err error) {
	rc, err := p.file.SyscallConn()
	if err != nil {
		return false, os.ErrClosed
	}
	if rc.Control(func(fd uintptr) { ended, err = rawsys.Readable(int(fd)) }) != nil {
		return false, os.ErrClosed
	}
	return ended && err == nil, err
}

func (p pidfd) awaitExit() error {
	rc, err := p.file.SyscallConn()
	if err == nil {
		err = rc.Read(func(fd uintptr) bool {
			ended, err := rawsys.Readable(int(fd))
			return ended && err == nil
		})
	}
	if err != nil {
		return os.ErrClosed // a handle that is open can be waited for
	}
	return nil
}

func (p pidfd) close() { _ = p.file.Close() }

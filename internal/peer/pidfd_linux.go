package peer

import (
	"os"
	"strconv"

	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/sock/rawsys"
)

// pidfd is readable from the moment on at which the process has ended.
type pidfd struct{ file *os.File }

// ownPidfd makes a handle of fd, and owns it.
func ownPidfd(pid int, fd *sock.FD) (handle, error) {
	file, err := fd.File("pidfd:" + strconv.Itoa(pid))
	if err != nil {
		return nil, err
	}
	return pidfd{file}, nil
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

//go:build linux && !usher_portable

package claim

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/sock/rawsys"
)

var system = kernel{eventfd: newEventfd, pipe: newPipe}

func newEventfd() (*sock.FD, error) {
	fd, err := rawsys.Eventfd(1, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if rawsys.Refused(err) {
		return nil, errors.ErrUnsupported
	}
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return sock.Own(fd), nil
}

// readNow reads without blocking, whatever the descriptor's mode: O_NONBLOCK is
// shared with the other side, which could clear it. A kernel that can't promise
// that for one read (before 5.9), or may not, is left with the flag; so it is
// asked first whether there is anything to read.
func readNow(fd int, buf []byte) (int, error) {
	n, err := rawsys.ReadNow(fd, buf)
	if err == nil || !rawsys.Refused(err) && err != unix.EOPNOTSUPP && err != unix.EINVAL {
		return n, err
	}
	if ready, err := rawsys.Readable(fd); err == nil && !ready {
		return 0, unix.EAGAIN
	}
	return unix.Read(fd, buf)
}

func pipeCloexec(p *[2]int) error { return unix.Pipe2(p[:], unix.O_CLOEXEC) }

// claimMode: a pipe, or an anonymous inode, which has no file type.
func claimMode(mode uint32) bool {
	return mode&unix.S_IFMT == unix.S_IFIFO || mode&unix.S_IFMT == 0
}

// nature is a descriptor's mode and status flags.
func nature(fd int) (mode uint32, flags int, err error) {
	var st unix.Stat_t
	if err := rawsys.Fstat(fd, &st); err != nil {
		return 0, 0, err
	}
	flags, err = rawsys.Flags(fd)
	return st.Mode, flags, err
}

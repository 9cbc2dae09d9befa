//go:build unix && (!linux || usher_portable)

package claim

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
)

var system = kernel{
	eventfd: func() (*sock.FD, error) { return nil, errors.ErrUnsupported },
	pipe:    newPipe,
}

// pipeCloexec holds the fork lock: these systems set close-on-exec only after
// the descriptors exist.
func pipeCloexec(p *[2]int) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := unix.Pipe(p[:]); err != nil {
		return err
	}
	unix.CloseOnExec(p[0])
	unix.CloseOnExec(p[1])
	return nil
}

// readNow reads without blocking, whatever the descriptor's mode, which is shared with the
// other side: so it is asked first whether there is anything to read. That the other side
// takes it in between leaves an end of file, because newPipe has closed the writing end.
func readNow(fd int, buf []byte) (int, error) {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds[:], 0); err != nil || n == 0 {
		return 0, unread(err)
	}
	return unix.Read(fd, buf)
}

// unread is why nothing is read when poll found nothing, or failed: on macOS with EAGAIN for
// want of memory, which does not say that there is nothing. It is asked again then.
func unread(err error) error {
	switch err {
	case nil:
		return unix.EAGAIN
	case unix.EAGAIN:
		return unix.EINTR
	}
	return err
}

func claimMode(mode uint32) bool { return mode&unix.S_IFMT == unix.S_IFIFO }

// nature is a descriptor's mode and status flags.
func nature(fd int) (mode uint32, flags int, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, 0, err
	}
	flags, err = unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return uint32(st.Mode), flags, err
}

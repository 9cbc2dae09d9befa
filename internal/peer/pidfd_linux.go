//go:build linux && !usher_portable

package peer

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

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

func (p pidfd) share() (*sock.FD, error) { return sock.Duplicate(p.file) }

// signalGroup has a signal go to the group that the process leads (Linux 6.9).
const signalGroup = 1 << 2

func (p pidfd) endGroup(pid int, now bool) error {
	signal := unix.SIGTERM
	if now {
		signal = unix.SIGKILL
	}
	rc, err := p.file.SyscallConn()
	if err != nil {
		return os.ErrClosed
	}
	var sent error
	if rc.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), signal, nil, signalGroup) }) != nil {
		return os.ErrClosed
	}
	if sent == unix.EINVAL || rawsys.Refused(sent) {
		if ended, err := p.exited(); ended || err != nil {
			return errors.Join(os.ErrProcessDone, err)
		}
		sent = unix.Kill(-pid, signal)
	}
	if sent == unix.ESRCH {
		return os.ErrProcessDone
	}
	return sent
}

// Resume returns a handle on the process whose Share was passed to this one. It owns fd. The
// error says that fd is no pidfd, or that the process has ended.
func Resume(fd *sock.FD) (*Process, error) {
	pid, err := pidOf(fd)
	if err != nil {
		fd.Close()
		return nil, fmt.Errorf("resume process: %w", err)
	}
	h, err := ownPidfd(pid, fd)
	return newProcess(pid, h, err)
}

// pidOf asks the kernel whose pidfd fd is.
func pidOf(fd *sock.FD) (int, error) {
	n, ok := sock.Borrow(fd)
	if !ok {
		return 0, os.ErrClosed
	}
	defer sock.Return(fd)
	if err := procIsOurs(); err != nil {
		return 0, err
	}
	info, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(n))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(info)) {
		if value, is := strings.CutPrefix(line, "Pid:"); is {
			if pid, err := strconv.Atoi(strings.TrimSpace(value)); err == nil && pid > 0 {
				return pid, nil
			}
			return 0, os.ErrProcessDone
		}
	}
	return 0, errors.New("its descriptor is no pidfd")
}

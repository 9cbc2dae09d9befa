//go:build usher_portable

package peer

import (
	"errors"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
)

const handles = "pid and start time"

// started is a process by its pid and the time of its start, for which the kernel is asked
// anew each time.
type started struct {
	pid   int
	start uint64 // in clock ticks since boot

	closing sync.Once
	closed  chan struct{}
}

func openHandle(pid int) (handle, error) {
	now, err := look(pid)
	if err == nil && now.ended {
		err = unix.ESRCH
	}
	if err != nil {
		return nil, err
	}
	return &started{pid: pid, start: now.start, closed: make(chan struct{})}, nil
}

func look(pid int) (processStat, error) {
	if err := procIsOurs(); err != nil {
		return processStat{}, err
	}
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return processStat{}, unix.ESRCH
	}
	if err != nil {
		return processStat{}, err
	}
	return parseStat(line)
}

func (s *started) exited() (bool, error) {
	select {
	case <-s.closed:
		return false, os.ErrClosed
	default:
	}
	now, err := look(s.pid)
	switch {
	case errors.Is(err, unix.ESRCH):
		return true, nil
	case err != nil:
		return false, err
	}
	return now.ended || now.start != s.start, nil
}

func (s *started) awaitExit() error { return awaitByLooking(s, s.closed) }

func (s *started) share() (*sock.FD, error) { return nil, errors.ErrUnsupported }

func (s *started) close() { s.closing.Do(func() { close(s.closed) }) }

func executableOf(pid int) (string, error) {
	if err := procIsOurs(); err != nil {
		return "", err
	}
	return os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
}

//go:build linux && !usher_portable

package peer

import (
	"errors"
	"io"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
)

// statFile is the open /proc/PID/stat of a process. The kernel binds it to the
// process, not to the number: read after its end it says ESRCH, whoever has the pid
// by then. The start time is compared as well, for file systems that only look
// like procfs.
type statFile struct {
	file  *os.File
	start uint64 // in clock ticks since boot

	closing sync.Once
	closed  chan struct{}
}

func openStat(pid int) (handle, error) {
	file, err := os.Open("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, os.ErrNotExist) {
		err = unix.ESRCH
	}
	if err != nil {
		return nil, err
	}
	s := &statFile{file: file, closed: make(chan struct{})}
	now, err := s.read()
	if err == nil && now.ended {
		err = unix.ESRCH
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	s.start = now.start
	return s, nil
}

func (s *statFile) exited() (bool, error) {
	now, err := s.read()
	switch {
	case errors.Is(err, unix.ESRCH):
		return true, nil
	case err != nil:
		return false, err
	}
	return now.ended || now.start != s.start, nil
}

func (s *statFile) awaitExit() error { return awaitByLooking(s, s.closed) }

func (s *statFile) close() {
	s.closing.Do(func() { close(s.closed) })
	_ = s.file.Close()
}

func (s *statFile) read() (processStat, error) {
	line := make([]byte, 1024) // the fields that matter come first
	n, err := s.file.ReadAt(line, 0)
	if err != nil && !(errors.Is(err, io.EOF) && n > 0) {
		return processStat{}, err
	}
	return parseStat(line[:n])
}

func (s *statFile) share() (*sock.FD, error) { return nil, errors.ErrUnsupported }

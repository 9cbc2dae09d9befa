package peer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

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

// statPoll is how often a stat file is read by who waits for the process' end: the
// broker gives a process that has lost its channel four times that to be seen dead.
const statPoll = 50 * time.Millisecond

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

func (s *statFile) awaitExit() error {
	ticker := time.NewTicker(statPoll)
	defer ticker.Stop()
	for {
		if ended, err := s.exited(); ended {
			return nil
		} else if errors.Is(err, os.ErrClosed) {
			return os.ErrClosed
		}
		select {
		case <-ticker.C:
		case <-s.closed:
			return os.ErrClosed
		}
	}
}

func (s *statFile) close() {
	s.closing.Do(func() { close(s.closed) })
	_ = s.file.Close()
}

// processStat is what a stat file says.
type processStat struct {
	ended bool
	start uint64
}

func (s *statFile) read() (processStat, error) {
	line := make([]byte, 1024) // the fields that matter come first
	n, err := s.file.ReadAt(line, 0)
	if err != nil && !(errors.Is(err, io.EOF) && n > 0) {
		return processStat{}, err
	}
	return parseStat(line[:n])
}

// parseStat reads "PID (NAME) STATE ...", where NAME may hold anything. A zombie
// has ended, unless other threads of it live on.
func parseStat(line []byte) (processStat, error) {
	const state, threads, start = 0, 17, 19 // behind NAME; 3, 20 and 22 in proc(5)
	_, rest, _ := bytes.Cut(line[max(0, bytes.LastIndexByte(line, ')')):], []byte(" "))
	fields := bytes.Fields(rest)
	if len(fields) <= start {
		return processStat{}, fmt.Errorf("stat file of a process: %d fields behind its name", len(fields))
	}
	began, err := strconv.ParseUint(string(fields[start]), 10, 64)
	if err != nil {
		return processStat{}, fmt.Errorf("stat file of a process: start time: %w", err)
	}
	dead := bytes.ContainsAny(fields[state], "Xx") ||
		bytes.Equal(fields[state], []byte("Z")) && (string(fields[threads]) == "1" || string(fields[threads]) == "0")
	return processStat{ended: dead, start: began}, nil
}

func (s *statFile) share() (*sock.FD, error) { return nil, errors.ErrUnsupported }

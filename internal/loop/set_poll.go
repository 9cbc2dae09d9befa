//go:build unix && (!linux || usher_portable)

package loop

import (
	"fmt"
	"math"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// set is what poll(2) is asked about. Each wait passes all of it to the kernel, in a thread
// of its own: slower than epoll with many descriptors, and the same on every Unix.
type set struct {
	fds   []unix.PollFd
	at    map[int]int // where in fds a descriptor is
	ready []int32     // what one wait found

	wake  int // reading end of a pipe: what wakes the wait
	waker int // its writing end
}

func noSet() set { return set{at: make(map[int]int), wake: -1, waker: -1} }

func (l *Loop) open() error {
	if err := l.set.pipe(); err != nil {
		return err
	}
	return l.add(l.set.wake, watched{nil, l.runPosted}, false)
}

// pipe makes what wakes the loop. The fork lock keeps a child from inheriting it in the
// moment before it is close-on-exec.
func (s *set) pipe() error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	var p [2]int
	if err := unix.Pipe(p[:]); err != nil {
		return err
	}
	s.wake, s.waker = p[0], p[1]
	for _, fd := range p {
		unix.CloseOnExec(fd)
		if err := unix.SetNonblock(fd, true); err != nil {
			return err
		}
	}
	return nil
}

func (s *set) add(fd int, endOnly bool) error {
	if _, twice := s.at[fd]; twice {
		return unix.EEXIST
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil { // poll would announce it for ever
		return err
	}
	s.at[fd] = len(s.fds)
	var events int16 = unix.POLLIN
	if endOnly { // of which poll tells unasked; not on macOS and FreeBSD, where nobody asks: the loop moves no bytes there (package splice)
		events = 0
	}
	s.fds = append(s.fds, unix.PollFd{Fd: int32(fd), Events: events})
	return nil
}

func (s *set) remove(fd int) {
	i, ok := s.at[fd]
	if !ok {
		return
	}
	delete(s.at, fd)
	last := len(s.fds) - 1
	if i != last {
		s.fds[i] = s.fds[last]
		s.at[int(s.fds[i].Fd)] = i
	}
	s.fds = s.fds[:last]
}

// wakeUp has woken called, soon.
func (s *set) wakeUp() { _, _ = unix.Write(s.waker, []byte{1}) } // full means that it is readable already

func (s *set) woken() {
	var some [16]byte // more are written only when the loop has read these
	_, _ = unix.Read(s.wake, some[:])
}

// arm does nothing: the next wait lasts until the alarm.
func (s *set) arm(time.Time) {}

func (l *Loop) run() error {
	s := &l.set
	for !l.stopped {
		n, err := unix.Poll(s.fds, l.patience())
		s.ready = s.ready[:0]
		switch {
		case err == unix.EINTR:
			continue
		case mayPass(err):
			s.readyUnasked(l.patience())
		case err != nil:
			return fmt.Errorf("event loop: %w", err)
		default:
			s.findReady(n)
		}
		for _, fd := range s.ready { // handlers change fds
			l.handle(fd)
		}
		if !l.alarm.IsZero() && !time.Now().Before(l.alarm) {
			l.ring()
		} else if len(s.ready) == 0 {
			continue
		}
		if l.rest != nil {
			l.rest()
		}
	}
	return nil
}

// findReady notes the n descriptors that the last wait has found.
func (s *set) findReady(n int) {
	for i := 0; n > 0 && i < len(s.fds); i++ {
		if s.fds[i].Revents != 0 {
			s.ready = append(s.ready, s.fds[i].Fd)
			n--
		}
	}
}

// unaskedEvery is how often handlers are called that can't be waited for.
const unaskedEvery = 10 * time.Millisecond

// mayPass reports whether a later wait may succeed: poll refuses to be asked about more than
// the process may have by now (RLIMIT_NOFILE, EINVAL), and fails for want of memory (ENOMEM,
// on macOS EAGAIN).
func mayPass(err error) bool {
	return err == unix.EINVAL || err == unix.EAGAIN || err == unix.ENOMEM
}

// readyUnasked takes all descriptors for ready, a moment later: an event is a hint.
func (s *set) readyUnasked(patience int) {
	pause := unaskedEvery
	if patience >= 0 {
		pause = min(pause, time.Duration(patience)*time.Millisecond)
	}
	time.Sleep(pause)
	for i := range s.fds {
		s.ready = append(s.ready, s.fds[i].Fd)
	}
}

// patience is how long the next wait may last, in milliseconds: until the alarm, rather a
// little longer than a wait too many, and for ever without one.
func (l *Loop) patience() int {
	if l.alarm.IsZero() {
		return -1
	}
	left := time.Until(l.alarm) + time.Millisecond - 1
	return int(min(max(left.Milliseconds(), 0), math.MaxInt32))
}

func (s *set) close() {
	for _, fd := range []int{s.wake, s.waker} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

//go:build linux && !usher_portable

package loop

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock/rawsys"
)

// set is an epoll set, and that is one descriptor in the runtime's poller. So a connection
// that is served at once never meets the runtime's poller, an event wakes one goroutine
// whatever it is about, and the goroutine parks as every other does.
type set struct {
	epoll  *os.File // in the runtime's poller
	raw    syscall.RawConn
	fd     int
	wake   int // eventfd
	timer  int // timerfd, armed for the alarm
	events [64]unix.EpollEvent
}

func noSet() set { return set{fd: -1, wake: -1, timer: -1} }

func (l *Loop) open() (err error) {
	s := &l.set
	if s.fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if s.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return err
	}
	if s.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return err
	}
	if err := l.add(s.wake, watched{nil, l.runPosted}, false); err != nil {
		return err
	}
	expired := func() {
		var expirations [8]byte
		_, _ = rawsys.Read(s.timer, expirations[:])
		l.ring()
	}
	if err := l.add(s.timer, watched{nil, expired}, false); err != nil {
		return err
	}
	if err := unix.SetNonblock(s.fd, true); err != nil { // else os.NewFile keeps it from the poller
		return err
	}
	s.epoll = os.NewFile(uintptr(s.fd), "epoll")
	s.raw, err = s.epoll.SyscallConn()
	return err
}

func (s *set) add(fd int, endOnly bool) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(fd)}
	if endOnly { // the kernel tells of it unasked; by the edge, it does not go on to
		event.Events = unix.EPOLLET
	}
	return rawsys.EpollCtl(s.fd, unix.EPOLL_CTL_ADD, fd, &event)
}

func (s *set) remove(fd int) { _ = rawsys.EpollCtl(s.fd, unix.EPOLL_CTL_DEL, fd, nil) }

// wakeUp has woken called, soon.
func (s *set) wakeUp() {
	one := [8]byte{1}
	_, _ = rawsys.Write(s.wake, one[:]) // full means that it is readable already
}

func (s *set) woken() {
	var count [8]byte
	_, _ = rawsys.Read(s.wake, count[:])
}

// arm has the loop ring at t.
func (s *set) arm(t time.Time) {
	_ = rawsys.ArmTimer(s.timer, time.Until(t)) // it fails for a bad descriptor alone
}

func (l *Loop) run() error {
	var failed error
	err := l.set.raw.Read(func(uintptr) bool {
		failed = l.turn()
		return failed != nil || l.stopped
	})
	return errors.Join(err, failed)
}

// turn handles events until there are none.
func (l *Loop) turn() error {
	s := &l.set
	for !l.stopped {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(s.fd), uintptr(unsafe.Pointer(&s.events[0])), uintptr(len(s.events)), 0, 0, 0)
		switch {
		case errno == unix.EINTR:
			continue
		case errno != 0:
			return fmt.Errorf("event loop: %w", errno)
		case n == 0:
			return nil
		}
		for i := range s.events[:n] {
			l.handle(s.events[i].Fd)
		}
		if l.rest != nil {
			l.rest()
		}
	}
	return nil
}

func (s *set) close() {
	for _, fd := range []int{s.wake, s.timer} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	if s.epoll != nil {
		_ = s.epoll.Close()
	} else if s.fd >= 0 {
		_ = unix.Close(s.fd)
	}
}

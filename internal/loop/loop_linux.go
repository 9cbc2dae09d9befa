// Package loop waits for many descriptors on one goroutine.
//
// The descriptors are in an epoll set of their own, and that set is one
// descriptor in the runtime's poller. So a connection that is served at once
// never meets the runtime's poller, an event wakes one goroutine whatever it is
// about, and the goroutine parks as every other does.
//
// Handlers run on the loop's goroutine one after the other. They must not block,
// and a handler that has much to do starts a goroutine for it. All is level
// triggered: an event is a hint, and what a handler leaves unread is announced
// again.
//
// A leaf: of usher it imports sock alone. A Loop owns its epoll set and what wakes
// it; what is in the set stays its owner's, who takes it out (Remove) before he closes
// it: another process may hold a copy, and the kernel would
// go on announcing it.
package loop

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/sock/rawsys"
)

// Handler is called when its descriptor has something to read, or has ended.
type Handler func()

// watched is one descriptor in the set.
type watched struct {
	from   sock.Lender // nil for the loop's own
	handle Handler
}

// Loop is one goroutine's set of descriptors. Only Post, and Stop, may be called
// from other goroutines than the one in Run; before Run, its maker may call all.
type Loop struct {
	epoll *os.File // in the runtime's poller
	raw   syscall.RawConn
	fd    int
	wake  int // eventfd, written by Post
	timer int // timerfd, armed for alarm

	handlers map[int32]watched // by descriptor
	tick     func(now time.Time) (next time.Time)
	rest     func()
	alarm    time.Time // zero when the timer is not armed
	events   [64]unix.EpollEvent

	mu      sync.Mutex
	posted  []func()
	ended   bool // nothing more is taken in
	closed  bool
	stopped bool // read on the loop alone
}

// New makes a loop. The caller runs it, or calls Close.
//
// tick is called at the time asked for by WakeAt; it returns when it wants to be
// called next, zero for not before the next WakeAt. rest, which may be nil, is called
// each time the events at hand have been handled.
func New(tick func(now time.Time) (next time.Time), rest func()) (*Loop, error) {
	l := &Loop{fd: -1, wake: -1, timer: -1, handlers: make(map[int32]watched), tick: tick, rest: rest}
	if err := l.open(); err != nil {
		l.Close()
		return nil, fmt.Errorf("event loop: %w", err)
	}
	return l, nil
}

func (l *Loop) open() (err error) {
	if l.fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return err
	}
	if l.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return err
	}
	if err := l.add(l.wake, watched{nil, l.runPosted}); err != nil {
		return err
	}
	if err := l.add(l.timer, watched{nil, l.ring}); err != nil {
		return err
	}
	if err := unix.SetNonblock(l.fd, true); err != nil { // else os.NewFile keeps it from the poller
		return err
	}
	l.epoll = os.NewFile(uintptr(l.fd), "epoll")
	l.raw, err = l.epoll.SyscallConn()
	return err
}

// Add has handler called whenever from, which stays the caller's, is readable. The error
// is os.ErrClosed when from has been closed.
func (l *Loop) Add(from sock.Lender, handler Handler) error {
	fd, ok := sock.Borrow(from)
	if !ok {
		return fmt.Errorf("watch descriptor: %w", os.ErrClosed)
	}
	defer sock.Return(from)
	return l.add(fd, watched{from, handler})
}

func (l *Loop) add(fd int, w watched) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(fd)}
	if err := rawsys.EpollCtl(l.fd, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("watch descriptor: %w", err)
	}
	l.handlers[int32(fd)] = w
	return nil
}

// Remove ends what Add began. It must come before from is closed.
func (l *Loop) Remove(from sock.Lender) {
	fd := sock.Number(from)
	if l.handlers[int32(fd)].from != from {
		return
	}
	delete(l.handlers, int32(fd))
	_ = rawsys.EpollCtl(l.fd, unix.EPOLL_CTL_DEL, fd, nil)
}

// Post has f called on the loop's goroutine, soon. True means that f is called, once,
// before Run returns; false, as soon as the loop has ended, that it never is. In a loop
// that never ran it is Close that calls.
func (l *Loop) Post(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.posted = append(l.posted, f)
	if len(l.posted) == 1 {
		one := [8]byte{1}
		_, _ = rawsys.Write(l.wake, one[:]) // full means that it is readable already
	}
	return true
}

// Stop makes Run return once the events at hand have been handled, and everything that
// has been posted has been called.
func (l *Loop) Stop() { l.Post(func() { l.stopped = true }) }

func (l *Loop) runPosted() {
	var count [8]byte
	_, _ = rawsys.Read(l.wake, count[:])
	l.mu.Lock()
	fs := l.posted
	l.posted = nil
	l.mu.Unlock()
	for _, f := range fs {
		f()
	}
}

// end calls what is posted, and what that posts, until there is nothing; in the same
// moment the loop has ended, and takes nothing more in.
func (l *Loop) end() {
	for {
		l.mu.Lock()
		fs := l.posted
		l.posted = nil
		l.ended = len(fs) == 0
		l.mu.Unlock()
		if len(fs) == 0 {
			return
		}
		for _, f := range fs {
			f()
		}
	}
}

// WakeAt has tick called at t, or before if that was asked for already.
func (l *Loop) WakeAt(t time.Time) {
	if t.IsZero() || !l.alarm.IsZero() && !t.Before(l.alarm) {
		return
	}
	l.alarm = t
	_ = rawsys.ArmTimer(l.timer, time.Until(t)) // it fails for a bad descriptor alone
}

func (l *Loop) ring() {
	var expirations [8]byte
	_, _ = rawsys.Read(l.timer, expirations[:])
	l.alarm = time.Time{}
	l.WakeAt(l.tick(time.Now()))
}

// Run handles events until Stop, or until it fails, and then calls what is posted: what
// is called so may post, but not for ever. It may be called once. The caller has taken
// out every descriptor that it will close; then it calls Close.
func (l *Loop) Run() error {
	defer l.end()
	var failed error
	err := l.raw.Read(func(uintptr) bool {
		failed = l.turn()
		return failed != nil || l.stopped
	})
	return errors.Join(err, failed)
}

// turn handles events until there are none.
func (l *Loop) turn() error {
	for !l.stopped {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.fd), uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)), 0, 0, 0)
		switch {
		case errno == unix.EINTR:
			continue
		case errno != 0:
			return fmt.Errorf("event loop: %w", errno)
		case n == 0:
			return nil
		}
		for i := range l.events[:n] {
			// Looked up each time: a handler may have taken out another's descriptor.
			if w := l.handlers[l.events[i].Fd]; w.handle != nil {
				w.handle()
			}
		}
		if l.rest != nil {
			l.rest()
		}
	}
	return nil
}

// Close frees what the loop owns. Call it when Run has returned, or instead of it; it
// then calls what has been posted first. It may be called again.
func (l *Loop) Close() {
	l.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	clear(l.handlers) // what is taken out later is out
	for _, fd := range []int{l.wake, l.timer} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	if l.epoll != nil {
		_ = l.epoll.Close()
	} else if l.fd >= 0 {
		_ = unix.Close(l.fd)
	}
}

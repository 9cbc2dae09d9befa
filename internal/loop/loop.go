// Package loop waits for many descriptors on one goroutine.
//
// How it waits is the system's: an epoll set of its own on Linux (set_linux.go), poll(2)
// on every other Unix, and on Linux with the build tag usher_portable (set_poll.go), reads of
// no bytes and events on Windows (set_windows.go).
// Elsewhere New answers errors.ErrUnsupported.
//
// Handlers run on the loop's goroutine one after the other. They must not block,
// and a handler that has much to do starts a goroutine for it. All is level
// triggered: an event is a hint, and what a handler leaves unread is announced
// again.
//
// A leaf: of usher it imports sock alone. A Loop owns its set and what wakes
// it; what is in the set stays its owner's, who takes it out (Remove) before he closes
// it: another process may hold a copy, and the kernel would
// go on announcing it.
package loop

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/seed-7265657e/usher/internal/sock"
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
	set set

	handlers map[int32]watched // by descriptor
	tick     func(now time.Time) (next time.Time)
	rest     func()
	alarm    time.Time // zero when tick is not asked for

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
	l := &Loop{set: noSet(), handlers: make(map[int32]watched), tick: tick, rest: rest}
	if err := l.open(); err != nil {
		l.Close()
		return nil, fmt.Errorf("event loop: %w", err)
	}
	return l, nil
}

// Add has handler called whenever from, which stays the caller's, is readable. The error
// is os.ErrClosed when from has been closed.
func (l *Loop) Add(from sock.Lender, handler Handler) error { return l.watch(from, handler, false) }

// AddEnd is Add for a socket of which nobody reads any more: handler is called when both of
// its directions have ended, once at least.
func (l *Loop) AddEnd(from sock.Lender, handler Handler) error { return l.watch(from, handler, true) }

func (l *Loop) watch(from sock.Lender, handler Handler, endOnly bool) error {
	fd, ok := sock.Borrow(from)
	if !ok {
		return fmt.Errorf("watch descriptor: %w", os.ErrClosed)
	}
	defer sock.Return(from)
	return l.add(fd, watched{from, handler}, endOnly)
}

func (l *Loop) add(fd int, w watched, endOnly bool) error {
	if err := l.set.add(fd, endOnly); err != nil {
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
	l.set.remove(fd)
}

// handle calls the handler of fd, if it has one still: another's may have taken it out.
func (l *Loop) handle(fd int32) {
	if w := l.handlers[fd]; w.handle != nil {
		w.handle()
	}
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
		l.set.wakeUp()
	}
	return true
}

// Stop makes Run return once the events at hand have been handled, and everything that
// has been posted has been called.
func (l *Loop) Stop() { l.Post(func() { l.stopped = true }) }

func (l *Loop) runPosted() {
	l.set.woken()
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
	l.set.arm(t)
}

func (l *Loop) ring() {
	l.alarm = time.Time{}
	l.WakeAt(l.tick(time.Now()))
}

// Run handles events until Stop, or until it fails, and then calls what is posted: what
// is called so may post, but not for ever. It may be called once. The caller has taken
// out every descriptor that it will close; then it calls Close.
func (l *Loop) Run() error {
	defer l.end()
	return l.run()
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
	l.set.close()
}

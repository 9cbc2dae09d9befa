package loop

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// set is what a loop watches, in one of two ways:
//
//   - a pipe, by a read of no bytes, which ends when there is something to read. Its end is
//     told by a procedure call to the loop's thread, and so by no completion port: the file
//     behind a pipe can be bound to one alone, and whoever gets the pipe binds it.
//   - an event, as a listener's
//
// A read under way belongs to the thread that began it, so reads are begun by the loop, and
// are over when it ends.
type set struct {
	watched map[int]*watch // pipes
	idle    []*watch       // of them, those for which no read is under way
	events  []windows.Handle
	ready   []int32 // what one wait found

	wake    windows.Handle // an event, the first of events
	running bool
}

// watch is a pipe in the set.
type watch struct {
	call  windows.Overlapped // first: the procedure gets its address
	set   *set
	fd    int
	begun bool // call is under way
}

var (
	kernel32   = windows.NewLazySystemDLL("kernel32.dll")
	readFileEx = kernel32.NewProc("ReadFileEx")
	waitFor    = kernel32.NewProc("WaitForMultipleObjectsEx")
)

// readEnded is called on the loop's thread, while that waits.
var readEnded = windows.NewCallback(func(_, _ uintptr, w *watch) uintptr {
	w.begun = false
	w.set.ready = append(w.set.ready, int32(w.fd))
	w.set.idle = append(w.set.idle, w)
	return 0
})

// maxEvents is how many events one wait is for (MAXIMUM_WAIT_OBJECTS).
const maxEvents = 64

func noSet() set { return set{watched: make(map[int]*watch)} }

func (l *Loop) open() (err error) {
	if l.set.wake, err = windows.CreateEvent(nil, 1, 0, nil); err != nil {
		return err
	}
	return l.add(int(l.set.wake), watched{nil, l.runPosted}, false)
}

func (s *set) add(fd int, endOnly bool) error {
	if endOnly { // nothing tells of an end but a read, and a pipe has no directions that end one by one
		return errors.ErrUnsupported
	}
	kind, err := windows.GetFileType(windows.Handle(fd))
	if err != nil || kind != windows.FILE_TYPE_PIPE {
		if len(s.events) == maxEvents {
			return fmt.Errorf("more than %d events in one loop", maxEvents)
		}
		s.events = append(s.events, windows.Handle(fd))
		return nil
	}
	if s.watched[fd] != nil {
		return windows.ERROR_ALREADY_EXISTS
	}
	w := &watch{set: s, fd: fd}
	if s.running {
		if err := s.begin(w); err != nil {
			return err
		}
	} else {
		s.idle = append(s.idle, w)
	}
	s.watched[fd] = w
	return nil
}

// begin has the loop told when there is something to read, or has ended.
func (s *set) begin(w *watch) error {
	w.call = windows.Overlapped{}
	var none byte
	ok, _, err := readFileEx.Call(uintptr(w.fd), uintptr(unsafe.Pointer(&none)), 0, uintptr(unsafe.Pointer(&w.call)), readEnded)
	if ok != 0 {
		w.begun = true
		return nil
	}
	if errors.Is(err, windows.ERROR_BROKEN_PIPE) || errors.Is(err, windows.ERROR_PIPE_NOT_CONNECTED) {
		s.ready = append(s.ready, int32(w.fd))
		s.idle = append(s.idle, w)
		return nil
	}
	return err
}

// beginAll begins what is not under way.
func (s *set) beginAll() {
	idle := s.idle
	s.idle = nil
	for _, w := range idle {
		if s.watched[w.fd] != w {
			continue
		}
		if err := s.begin(w); err != nil { // an event is a hint, and who is called learns why
			s.ready = append(s.ready, int32(w.fd))
			s.idle = append(s.idle, w)
		}
	}
}

func (s *set) remove(fd int) {
	if w := s.watched[fd]; w != nil {
		delete(s.watched, fd)
		s.end(w)
		return
	}
	for i, h := range s.events {
		if int(h) == fd {
			s.events = append(s.events[:i], s.events[i+1:]...)
			return
		}
	}
}

// end ends a read that is under way, before somebody else gets the pipe.
func (s *set) end(w *watch) {
	if !w.begun {
		return
	}
	_ = windows.CancelIoEx(windows.Handle(w.fd), &w.call) // fails where it has just ended
	for w.begun {
		windows.SleepEx(windows.INFINITE, true)
	}
}

// wakeUp has woken called, soon.
func (s *set) wakeUp() { _ = windows.SetEvent(s.wake) }

func (s *set) woken() { _ = windows.ResetEvent(s.wake) }

// arm does nothing: the next wait lasts until the alarm.
func (s *set) arm(time.Time) {}

func (l *Loop) run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s := &l.set
	s.running = true
	defer s.endAll()
	for !l.stopped {
		s.beginAll()
		if err := s.wait(l.patience()); err != nil {
			return fmt.Errorf("event loop: %w", err)
		}
		ready := s.ready
		s.ready = nil
		for _, fd := range ready { // handlers change the set
			l.handle(fd)
		}
		if !l.alarm.IsZero() && !time.Now().Before(l.alarm) {
			l.ring()
		} else if len(ready) == 0 {
			continue
		}
		if l.rest != nil {
			l.rest()
		}
	}
	return nil
}

// wait waits until something is ready, for patience milliseconds at most.
func (s *set) wait(patience uint32) error {
	if len(s.ready) > 0 {
		patience = 0
	}
	found, _, err := waitFor.Call(uintptr(len(s.events)), uintptr(unsafe.Pointer(&s.events[0])), 0, uintptr(patience), 1)
	if uint32(found) == windows.WAIT_FAILED {
		return err
	}
	windows.SleepEx(0, true) // a wait that an event has ended calls nobody
	for _, h := range s.events {
		if set, _ := windows.WaitForSingleObject(h, 0); set == windows.WAIT_OBJECT_0 {
			s.ready = append(s.ready, int32(h))
		}
	}
	return nil
}

// patience is how long the next wait may last, in milliseconds: until the alarm, rather a
// little longer than a wait too many, and for ever without one.
func (l *Loop) patience() uint32 {
	if l.alarm.IsZero() {
		return windows.INFINITE
	}
	left := time.Until(l.alarm) + time.Millisecond - 1
	return uint32(min(max(left.Milliseconds(), 0), math.MaxInt32))
}

// endAll is the end of the loop's thread, as far as the set goes.
func (s *set) endAll() {
	s.running = false
	for _, w := range s.watched {
		s.end(w)
	}
}

func (s *set) close() {
	if s.wake != 0 {
		_ = windows.CloseHandle(s.wake)
	}
}

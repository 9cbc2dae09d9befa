//go:build linux && !usher_portable

package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/sock/rawsys"
)

// Watch is an inotify instance. It is used by one goroutine at a time.
type Watch struct {
	fd       *sock.FD
	names    map[step]bool
	contents map[string]int32 // watch descriptors of AddContent, by path
	buf      [4 << 10]byte
}

// step is a name that matters in a watched directory; without a name, all do.
type step struct {
	directory int32 // its watch descriptor, which is never used again
	name      string
}

// events: of a directory, that a name in it, or it itself, leads elsewhere; of a
// file, that its content or its inode changed.
const events = unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVE |
	ownEvents

// ownEvents: that a directory or link itself leads elsewhere.
const ownEvents = unix.IN_ATTRIB | unix.IN_MOVE_SELF | unix.IN_DELETE_SELF

// New makes a Watch of nothing. The caller closes it.
func New() (*Watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	return &Watch{fd: sock.Own(fd), names: make(map[step]bool), contents: make(map[string]int32)}, nil
}

// Add watches the files at the absolute paths, and every directory and symbolic
// link on the way to them, from before it returns on. After an error some are
// watched, and some not. What is watched stays so until it is deleted.
//
// Of a directory that is only passed on the way, what happens to the files in it is not
// asked for: in those near the root something always happens.
func (w *Watch) Add(paths ...string) error {
	fd, ok := sock.Borrow(w.fd)
	if !ok {
		return os.ErrClosed
	}
	defer sock.Return(w.fd)
	for _, path := range paths {
		if err := steps(path, func(place, name string, what kind) error { return w.visit(fd, place, name, what) }); err != nil {
			return err
		}
	}
	return nil
}

// AddName is Add of one path, at which there may be nothing: then what comes there is told.
func (w *Watch) AddName(path string) error {
	fd, ok := sock.Borrow(w.fd)
	if !ok {
		return os.ErrClosed
	}
	defer sock.Return(w.fd)
	var sought string // what the directory that holds it, which is watched, is asked for
	err := steps(path, func(place, name string, what kind) error {
		if what == searched {
			sought = filepath.Join(place, name)
		}
		err := w.visit(fd, place, name, what)
		if place == sought && errors.Is(err, unix.ENOENT) {
			return errNothingThere
		}
		return err
	})
	if errors.Is(err, errNothingThere) {
		return nil
	}
	return err
}

var errNothingThere = errors.New("nothing there")

func (w *Watch) visit(fd int, place, name string, what kind) error {
	mask := uint32(ownEvents)
	if what != passed {
		mask = events
	}
	wd, err := unix.InotifyAddWatch(fd, place, mask|unix.IN_DONT_FOLLOW|unix.IN_MASK_ADD)
	if err != nil {
		return fmt.Errorf("watch %s: %w", place, err)
	}
	if what != passed {
		w.names[step{int32(wd), name}] = true
	}
	return nil
}

// AddContent watches for writes to the file at path, and nothing else: neither its name nor
// what lies beside it. RemoveContent ends that.
func (w *Watch) AddContent(path string) error {
	fd, ok := sock.Borrow(w.fd)
	if !ok {
		return os.ErrClosed
	}
	defer sock.Return(w.fd)
	wd, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY)
	if err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	w.names[step{int32(wd), ""}], w.contents[path] = true, int32(wd)
	return nil
}

// RemoveContent ends an AddContent. That it did so counts as a change.
func (w *Watch) RemoveContent(path string) {
	wd, ok := w.contents[path]
	fd, open := sock.Borrow(w.fd)
	if !ok || !open {
		return
	}
	defer sock.Return(w.fd)
	delete(w.contents, path)
	_, _ = unix.InotifyRmWatch(fd, uint32(wd)) // it fails for a file that was deleted
}

// Descriptor is for an event loop: it is readable when Changed has something to read.
func (w *Watch) Descriptor() *sock.FD { return w.fd }

// Changed reports whether something has happened since the last call.
func (w *Watch) Changed() (changed bool) {
	fd, ok := sock.Borrow(w.fd)
	if !ok {
		return true
	}
	defer sock.Return(w.fd)
	for range mostReads {
		n, err := rawsys.Read(fd, w.buf[:])
		if err != nil {
			return changed || err != unix.EAGAIN
		}
		changed = w.matters(w.buf[:n]) || changed
	}
	return true // what is left will be read the next time
}

// mostReads bounds one Changed.
const mostReads = 16

// matters reports whether an event in b concerns what is watched, and not only
// something beside it. It forgets what can't happen any more.
func (w *Watch) matters(b []byte) (yes bool) {
	for len(b) >= unix.SizeofInotifyEvent {
		event := (*unix.InotifyEvent)(unsafe.Pointer(&b[0]))
		end := min(unix.SizeofInotifyEvent+int(event.Len), len(b))
		name, _, _ := bytes.Cut(b[unix.SizeofInotifyEvent:end], []byte{0})
		switch {
		case event.Mask&unix.IN_IGNORED != 0:
			maps.DeleteFunc(w.names, func(s step, _ bool) bool { return s.directory == event.Wd })
			yes = true
		case len(name) == 0, w.names[step{event.Wd, string(name)}], w.names[step{event.Wd, ""}]:
			yes = true
		}
		b = b[end:]
	}
	return yes
}

// Close ends the Watch.
func (w *Watch) Close() { w.fd.Close() }

// Waiter is a Watch for a goroutine that waits.
type Waiter struct {
	*Watch
	poller *os.File // a second descriptor of it, in the runtime's poller
}

// NewWaiter makes a Waiter of nothing. The caller closes it.
func NewWaiter() (*Waiter, error) {
	w, err := New()
	if err != nil {
		return nil, err
	}
	own, _ := sock.Borrow(w.fd)
	fd, err := unix.FcntlInt(uintptr(own), unix.F_DUPFD_CLOEXEC, 0)
	sock.Return(w.fd)
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("inotify: %w", err)
	}
	return &Waiter{w, os.NewFile(uintptr(fd), "inotify")}, nil
}

// NewFollower is NewWaiter. Where files can't be watched, a follower comes back now and then
// instead, for who looks himself after each Wait.
func NewFollower() (*Waiter, error) { return NewWaiter() }

// Wait returns nil as soon as something has happened since the last call of Wait or
// Changed, or ctx's error.
func (w *Waiter) Wait(ctx context.Context) error {
	raw, err := w.poller.SyscallConn()
	if err != nil {
		return err
	}
	_ = w.poller.SetReadDeadline(time.Time{}) // an earlier ctx may have ended
	stop := context.AfterFunc(ctx, func() { _ = w.poller.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := raw.Read(func(uintptr) bool { return w.Changed() }); err != nil && ctx.Err() == nil {
		return err
	}
	return ctx.Err()
}

// Close ends the Waiter.
func (w *Waiter) Close() {
	_ = w.poller.Close()
	w.Watch.Close()
}

// Lacks names what Linux has for this package and this system has not, for people.
func Lacks() []string { return nil }

package watch

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/sock/rawsys"
)

// Watch is an inotify instance. It is used by one goroutine at a time.
type Watch struct {
	fd    *sock.FD
	names map[step]bool
	buf   [4 << 10]byte
}

// step is a name that matters in a watched directory; without a name, all do.
type step struct {
	directory int32 // its watch descriptor, which is never used again
	name      string
}

// events: of a directory, that a name in it, or it itself, leads elsewhere; of a
// file, that its content or its inode changed.
const events = unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVE |
	unix.IN_MOVE_SELF | unix.IN_DELETE_SELF

// New makes a Watch of nothing. The caller closes it.
func New() (*Watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	return &Watch{fd: sock.Own(fd), names: make(map[step]bool)}, nil
}

// Add watches the files at the absolute paths, and every directory and symbolic
// link on the way to them, from before it returns on. After an error some are
// watched, and some not. What is watched stays so until it is deleted.
func (w *Watch) Add(paths ...string) error {
	fd, ok := sock.Borrow(w.fd)
	if !ok {
		return os.ErrClosed
	}
	defer sock.Return(w.fd)
	for _, path := range paths {
		err := steps(path, func(at, name string) error {
			wd, err := unix.InotifyAddWatch(fd, at, events)
			if err != nil {
				return fmt.Errorf("watch %s: %w", at, err)
			}
			w.names[step{int32(wd), name}] = true
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
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

package watch

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/rawsys"
)

// Watch is an inotify instance. Changed is called by one goroutine at a time.
type Watch struct {
	fd  int
	buf [4 << 10]byte // what the events say does not matter
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
	return &Watch{fd: fd}, nil
}

// Add watches the files at the absolute paths, and every directory and symbolic
// link on the way to them, from before it returns on. After an error some are
// watched, and some not. What is watched stays so until it is deleted.
func (w *Watch) Add(paths ...string) error {
	for _, path := range paths {
		err := steps(path, func(at string) error {
			if _, err := unix.InotifyAddWatch(w.fd, at, events); err != nil {
				return fmt.Errorf("watch %s: %w", at, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Changed reports whether something has happened since the last call.
func (w *Watch) Changed() bool {
	n, err := rawsys.Read(w.fd, w.buf[:])
	return n > 0 || err != unix.EAGAIN
}

// Close ends the Watch.
func (w *Watch) Close() { rawsys.Close(w.fd) }

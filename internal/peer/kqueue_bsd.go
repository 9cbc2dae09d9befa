//go:build darwin || freebsd || openbsd || netbsd || dragonfly

package peer

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
)

const handles = "kqueue"

// watched is a kqueue with one filter: that a process exits. The filter belongs to the
// process that had the pid when it was made, and not to the number (kqueue(2), EVFILT_PROC
// with NOTE_EXIT; spec 03 §8, step 3).
type watched struct {
	mu   sync.Mutex // guards what follows
	kq   int        // -1 once closed
	gone bool       // the event comes once

	closing sync.Once
	closed  chan struct{}
}

func openHandle(pid int) (handle, error) {
	kq, err := unix.Kqueue() // which no child inherits
	if err != nil {
		return nil, err
	}
	unix.CloseOnExec(kq)
	var exit unix.Kevent_t
	unix.SetKevent(&exit, pid, unix.EVFILT_PROC, unix.EV_ADD)
	exit.Fflags = unix.NOTE_EXIT
	for {
		if _, err = unix.Kevent(kq, []unix.Kevent_t{exit}, nil, nil); err != unix.EINTR {
			break
		}
	}
	if err != nil { // ESRCH: there is none, or it has ended
		_ = unix.Close(kq)
		return nil, err
	}
	return &watched{kq: kq, closed: make(chan struct{})}, nil
}

func (w *watched) exited() (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.kq < 0 {
		return false, os.ErrClosed
	}
	if w.gone {
		return true, nil
	}
	events := make([]unix.Kevent_t, 1)
	n, err := unix.Kevent(w.kq, nil, events, &unix.Timespec{})
	if errors.Is(err, unix.EINTR) {
		return false, nil // it is asked again
	}
	w.gone = n > 0
	return w.gone, err
}

func (w *watched) awaitExit() error { return awaitByLooking(w, w.closed) }

func (w *watched) share() (*sock.FD, error) { return nil, errors.ErrUnsupported }

func (w *watched) close() {
	w.closing.Do(func() {
		close(w.closed)
		w.mu.Lock()
		defer w.mu.Unlock()
		_ = unix.Close(w.kq)
		w.kq = -1
	})
}

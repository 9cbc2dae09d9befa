//go:build unix

package peer

import (
	"errors"
	"os"
	"time"
)

// lookEvery is how often a handle that does not tell of the process' end is asked at the
// least by who waits for it: the broker gives a process that has lost its channel four
// times that to be seen dead. One that has not been waited for long is asked more often.
const (
	lookEvery = 50 * time.Millisecond
	lookFirst = 2 * time.Millisecond
)

// awaitByLooking is awaitExit of a handle that does not tell. It ends when closed is closed.
func awaitByLooking(h handle, closed <-chan struct{}) error {
	began := time.Now()
	timer := time.NewTimer(lookFirst)
	defer timer.Stop()
	for {
		if ended, err := h.exited(); ended {
			return nil
		} else if errors.Is(err, os.ErrClosed) {
			return os.ErrClosed
		}
		select {
		case <-timer.C:
			timer.Reset(min(max(time.Since(began)/8, lookFirst), lookEvery))
		case <-closed:
			return os.ErrClosed
		}
	}
}

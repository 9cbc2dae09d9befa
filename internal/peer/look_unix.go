//go:build unix

package peer

import (
	"errors"
	"os"
	"time"
)

// lookEvery is how often a handle that does not tell of the process' end is asked by who
// waits for it: the broker gives a process that has lost its channel four times that to be
// seen dead.
const lookEvery = 50 * time.Millisecond

// awaitByLooking is awaitExit of a handle that does not tell. It ends when closed is closed.
func awaitByLooking(h handle, closed <-chan struct{}) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		if ended, err := h.exited(); ended {
			return nil
		} else if errors.Is(err, os.ErrClosed) {
			return os.ErrClosed
		}
		select {
		case <-ticker.C:
		case <-closed:
			return os.ErrClosed
		}
	}
}

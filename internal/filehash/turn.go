package filehash

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// turn is taken by who reads a file to hash it: one at a time in a process, so that
// hashing takes one core at most, whoever asks for how many files. Who is kept by a file
// system that does not answer loses it to the next, and reads on without it.
var turn = make(chan struct{}, 1)

const (
	// stallTime is how long a read may take before its turn is another's.
	stallTime = time.Second
	// maxStalled bounds the reads without a turn.
	maxStalled = 32
)

var stalled atomic.Int32

var errStalled = errors.New("too many files are on file systems that don't answer")

// turnHolder is one taking of the turn.
type turnHolder struct {
	mu    sync.Mutex
	timer *time.Timer // of the read under way
	lost  bool
	ended bool
}

// takeTurn waits for the turn. Its holder calls moved now and then, and end at the end.
func takeTurn(ctx context.Context) (*turnHolder, error) {
	if stalled.Load() >= maxStalled {
		return nil, errStalled
	}
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	h := &turnHolder{}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timer = time.AfterFunc(stallTime, h.lose)
	return h, nil
}

// moved says that a read has come back.
func (h *turnHolder) moved() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.lost {
		h.timer.Reset(stallTime)
	}
}

func (h *turnHolder) lose() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended || h.lost {
		return
	}
	h.lost = true
	stalled.Add(1)
	<-turn
}

func (h *turnHolder) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	h.timer.Stop()
	if h.lost {
		stalled.Add(-1)
		return
	}
	<-turn
}

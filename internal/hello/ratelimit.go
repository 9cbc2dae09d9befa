package hello

import (
	"sync"
	"time"
)

// DefaultRateWindow is v1's window for counting Hellos (spec 01 §7.3).
const DefaultRateWindow = time.Second

// maxTracked bounds the table. A process beyond it pushes out the one whose
// window is oldest: forgetting a count lets some more Hellos through, while
// refusing would let a crowd of processes lock everyone else out.
const maxTracked = 8192

// Limiter counts Hellos per verified pid in fixed windows that begin with a
// process's first Hello. It is safe for concurrent use and starts no
// goroutines; a window that ended is forgotten by a later call, a constant
// number of steps per Hello on average.
type Limiter struct {
	max    int
	window time.Duration

	mu      sync.Mutex // guards everything below
	latest  time.Time  // the newest time seen; windows begin in this order
	windows map[uint32]rateWindow
	oldest  ring // pids of windows, in the order in which they began
}

type rateWindow struct {
	began time.Time
	count int
}

// NewLimiter allows limit Hellos per pid and window; limit below 1 counts as 1
// and a window of 0 or less as 1 ms.
func NewLimiter(limit int, window time.Duration) *Limiter {
	if window <= 0 {
		window = time.Millisecond
	}
	return &Limiter{
		max:     max(limit, 1),
		window:  window,
		windows: make(map[uint32]rateWindow),
	}
}

// Allow counts one Hello of pid at now. When it is one too many, ok is false
// and retryAfter says how long the window still runs, at least 1 ms. Pid 0, a
// peer the kernel can't name, is never limited.
func (l *Limiter) Allow(pid uint32, now time.Time) (retryAfter time.Duration, ok bool) {
	if pid == 0 {
		return 0, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// Callers read the clock before they get the lock. Windows must begin in
	// the order of the ring, so time never steps back in here.
	if now.Before(l.latest) {
		now = l.latest
	}
	l.latest = now
	l.forgetEnded(now)

	w, known := l.windows[pid]
	if !known {
		if l.oldest.len() == maxTracked {
			delete(l.windows, l.oldest.pop())
		}
		l.oldest.push(pid)
		w.began = now
	}
	if w.count >= l.max {
		return max(l.window-now.Sub(w.began), time.Millisecond), false
	}
	w.count++
	l.windows[pid] = w
	return 0, true
}

func (l *Limiter) forgetEnded(now time.Time) {
	for l.oldest.len() > 0 && now.Sub(l.windows[l.oldest.peek()].began) >= l.window {
		delete(l.windows, l.oldest.pop())
	}
}

// ring is a queue of at most maxTracked pids.
type ring struct {
	pids []uint32
	head int
	n    int
}

func (r *ring) len() int     { return r.n }
func (r *ring) peek() uint32 { return r.pids[r.head] }

func (r *ring) pop() uint32 {
	pid := r.pids[r.head]
	r.head = (r.head + 1) % len(r.pids)
	r.n--
	return pid
}

// push doubles the storage when it is full, which Limiter allows up to
// maxTracked.
func (r *ring) push(pid uint32) {
	if r.n == len(r.pids) {
		grown := make([]uint32, max(16, 2*r.n))
		for i := range r.n {
			grown[i] = r.pids[(r.head+i)%len(r.pids)]
		}
		r.pids, r.head = grown, 0
	}
	r.pids[(r.head+r.n)%len(r.pids)] = pid
	r.n++
}

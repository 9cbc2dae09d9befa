package hello

import (
	"time"

	"github.com/seed-7265657e/usher/internal/window"
)

// DefaultRateWindow is v1's window for counting Hellos (spec 01 §7.3).
const DefaultRateWindow = time.Second

// Limiter counts Hellos per verified pid in fixed windows that begin with a
// process's first Hello. It belongs to one goroutine.
type Limiter struct {
	max    int
	hellos *window.Counter[uint32]
}

// NewLimiter allows limit Hellos per pid and window; limit below 1 counts as 1
// and a window of 0 or less as 1 ms.
func NewLimiter(limit int, length time.Duration) *Limiter {
	return &Limiter{max: max(limit, 1), hellos: window.New[uint32](length)}
}

// Allow counts one Hello of pid at now. When it is one too many, ok is false
// and retryAfter says how long the window still runs, at least 1 ms. Pid 0, a
// peer the kernel can't name, is never limited.
func (l *Limiter) Allow(pid uint32, now time.Time) (retryAfter time.Duration, ok bool) {
	if pid == 0 {
		return 0, true
	}
	return l.hellos.Allow(pid, l.max, now)
}

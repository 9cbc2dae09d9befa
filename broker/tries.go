package broker

import (
	"fmt"
	"time"

	"github.com/seed-7265657e/usher/internal/registry"
)

// This file is how often an instance of a key is started, and what those are told who come
// when it is not.

// tries is how often a key was tried since a time (spec 03 §10).
type tries struct {
	since  time.Time
	n      int
	why    string    // of the last failure
	failed time.Time // when that was
}

const (
	startsPerWindow = 3
	startWindow     = 30 * time.Second
	// sameFailure is how long a failure is the answer for those who come behind it: they
	// were about to wait for the same start.
	sameFailure = time.Second
	maxWindows  = 1024
)

// allow reports whether there may be a try, or says why not, and how long to wait where
// there were too many.
func (s *starts) allow(key registry.Key, now time.Time) (why string, retry time.Duration, ok bool) {
	w := s.budget[key]
	if now.Sub(w.failed) < sameFailure {
		return w.why, 0, false
	}
	if now.Sub(w.since) < startWindow && w.n >= startsPerWindow {
		why = fmt.Sprintf("it was started %d times in %v", startsPerWindow, startWindow)
		if w.why != "" { // else none of them has ended yet
			why += ": " + w.why
		}
		return why, w.since.Add(startWindow).Sub(now), false
	}
	return "", 0, true
}

// begun counts a try.
func (s *starts) begun(key registry.Key, now time.Time) {
	w := s.budget[key]
	if now.Sub(w.since) >= startWindow {
		w = tries{since: now}
	}
	w.n++
	if len(s.budget) >= maxWindows {
		clear(s.budget)
	}
	s.budget[key] = w
}

// proven forgets the tries of a key: one of them has led to an instance that serves.
func (s *starts) proven(key registry.Key) { delete(s.budget, key) }

// unproven notes why the last try was in vain, where none has been proven since.
func (s *starts) unproven(key registry.Key, why string) {
	if w, counted := s.budget[key]; counted {
		w.why = why
		s.budget[key] = w
	}
}

// failed notes why the last try failed.
func (s *starts) failed(key registry.Key, why string, now time.Time) {
	w := s.budget[key]
	w.why, w.failed = why, now
	s.budget[key] = w
}

// forget has the last try not count: nothing of the instance's own has failed.
func (s *starts) forget(key registry.Key) {
	if w, counted := s.budget[key]; counted {
		w.n--
		s.budget[key] = w
	}
}

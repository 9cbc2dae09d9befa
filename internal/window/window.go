// Package window counts what happens to each of many keys in fixed windows of time.
//
// A leaf: it imports nothing of usher, and no descriptor passes through it.
package window

import "time"

// maxKeys bounds a Counter. A key beyond it pushes out the one whose window is oldest:
// forgetting a count lets some more through, while refusing would let a crowd lock
// everyone else out.
const maxKeys = 8192

// Counter counts by key. A window begins with the first count of its key; one that is
// over begins anew, empty, when it is asked for. It belongs to one goroutine. Every call
// takes a constant number of steps on average.
type Counter[K comparable] struct {
	length time.Duration
	latest time.Time // the newest time seen: windows begin in the order of the list
	known  map[K]*window[K]
	list   window[K]  // its next is the oldest window, its previous the newest
	spare  *window[K] // one that was taken out last
}

type window[K comparable] struct {
	key            K
	began          time.Time
	count          int
	next, previous *window[K]
}

// New counts in windows of a length; 0 and less is 1 ms.
func New[K comparable](length time.Duration) *Counter[K] {
	if length <= 0 {
		length = time.Millisecond
	}
	c := &Counter[K]{length: length, known: make(map[K]*window[K])}
	c.list.next, c.list.previous = &c.list, &c.list
	return c
}

// Count returns what has been counted of key in its window, and how long that still
// runs: the whole length where none has begun.
func (c *Counter[K]) Count(key K, now time.Time) (n int, left time.Duration) {
	now = c.clock(now)
	w := c.known[key]
	if w == nil {
		return 0, c.length
	}
	if now.Sub(w.began) >= c.length {
		w.began, w.count = now, 0
		w.unlink()
		c.append(w)
	}
	return w.count, c.length - now.Sub(w.began)
}

// Add counts one more of key.
func (c *Counter[K]) Add(key K, now time.Time) {
	c.Count(key, now) // which may begin the window anew
	w := c.known[key]
	if w == nil {
		w = c.begin(key, c.clock(now))
	}
	w.count++
}

// Allow is Add, unless most have been counted already: then it returns how long the
// window still runs, at least 1 ms.
func (c *Counter[K]) Allow(key K, most int, now time.Time) (retryAfter time.Duration, ok bool) {
	if n, left := c.Count(key, now); n >= most {
		return max(left, time.Millisecond), false
	}
	c.Add(key, now)
	return 0, true
}

// Forget drops what has been counted of key.
func (c *Counter[K]) Forget(key K) {
	if w := c.known[key]; w != nil {
		c.remove(w)
	}
}

// clock is now, or the newest time seen where a caller read its clock before another.
func (c *Counter[K]) clock(now time.Time) time.Time {
	if now.After(c.latest) {
		c.latest = now
	}
	return c.latest
}

// begin makes room, and begins a window.
func (c *Counter[K]) begin(key K, now time.Time) *window[K] {
	for oldest := c.list.next; oldest != &c.list; oldest = c.list.next {
		if len(c.known) < maxKeys && now.Sub(oldest.began) < c.length {
			break
		}
		c.remove(oldest)
	}
	w := c.spare
	if c.spare = nil; w == nil {
		w = new(window[K])
	}
	*w = window[K]{key: key, began: now}
	c.append(w)
	c.known[key] = w
	return w
}

func (c *Counter[K]) append(w *window[K]) {
	w.previous, w.next = c.list.previous, &c.list
	w.previous.next, w.next.previous = w, w
}

func (c *Counter[K]) remove(w *window[K]) {
	w.unlink()
	delete(c.known, w.key)
	c.spare = w
}

func (w *window[K]) unlink() { w.previous.next, w.next.previous = w.next, w.previous }

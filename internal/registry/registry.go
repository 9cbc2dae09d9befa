// Package registry knows the live backends: who serves which service at which
// version, as which build. A backend enters when the broker has verified it and
// leaves when its process or its channel ends.
//
// A domain package: it imports nothing of usher. What a backend's handle owns
// is closed by whoever removes the entry.
package registry

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Key is what a Hello resolves to. The build (the executable's hash) is judged
// on top of it, see Find.
type Key struct {
	Instance string // broker instance id, spec 03 §1
	Service  string
	Version  string
}

// Entry is one live backend. Its exported fields don't change once it is in the
// registry; it may be used after it has left.
type Entry[H any] struct {
	Key
	PID     int
	ExePath string   // as the kernel knew it when the backend registered
	ExeHash [32]byte // BLAKE3 of the executable file
	Pipe    string   // the backend's own socket
	Since   time.Time
	// Handle is the broker's means to reach the backend.
	Handle H

	lastHello atomic.Int64
	lastError atomic.Pointer[string]
}

// MarkHello notes that a client was sent to this backend.
func (e *Entry[H]) MarkHello(now time.Time) { e.lastHello.Store(now.UnixMilli()) }

// LastHello returns the Unix time of the last MarkHello in ms; 0 for never.
func (e *Entry[H]) LastHello() int64 { return e.lastHello.Load() }

// MarkError notes why the last handoff to this backend failed.
func (e *Entry[H]) MarkError(err error) { text := err.Error(); e.lastError.Store(&text) }

// LastError returns the last MarkError's text; "" for none.
func (e *Entry[H]) LastError() string {
	if p := e.lastError.Load(); p != nil {
		return *p
	}
	return ""
}

// Registry holds the live backends. The zero value is empty and ready; it is
// safe for concurrent use.
type Registry[H any] struct {
	mu      sync.RWMutex
	entries map[Key][]*Entry[H] // each the newest last
	count   int
}

// Add enters e, which may share its key with others: any number of instances of
// one version can live side by side.
func (r *Registry[H]) Add(e *Entry[H]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.entries == nil {
		r.entries = make(map[Key][]*Entry[H])
	}
	r.entries[e.Key] = append(r.entries[e.Key], e)
	r.count++
}

// Remove takes e out and reports whether it was in.
func (r *Registry[H]) Remove(e *Entry[H]) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.entries[e.Key]
	at := slices.Index(list, e)
	if at < 0 {
		return false
	}
	// A new slice: a reader may still walk the old one.
	list = append(slices.Clone(list[:at]), list[at+1:]...)
	if len(list) == 0 {
		delete(r.entries, e.Key)
	} else {
		r.entries[e.Key] = list
	}
	r.count--
	return true
}

// Find returns the backend of key that entered last and passes fits, or nil. It
// calls fits without holding a lock.
func (r *Registry[H]) Find(key Key, fits func(*Entry[H]) bool) *Entry[H] {
	r.mu.RLock()
	list := r.entries[key]
	r.mu.RUnlock()
	for _, e := range slices.Backward(list) {
		if fits(e) {
			return e
		}
	}
	return nil
}

// All returns every backend, ordered by service, version, Since and instance; of
// those that agree in all, the one that entered first.
func (r *Registry[H]) All() []*Entry[H] {
	r.mu.RLock()
	all := make([]*Entry[H], 0, r.count)
	for _, list := range r.entries {
		all = append(all, list...)
	}
	r.mu.RUnlock()
	slices.SortStableFunc(all, func(a, b *Entry[H]) int {
		return cmp.Or(
			strings.Compare(a.Service, b.Service),
			strings.Compare(a.Version, b.Version),
			a.Since.Compare(b.Since),
			strings.Compare(a.Instance, b.Instance),
		)
	})
	return all
}

// Len returns how many backends live.
func (r *Registry[H]) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.count
}

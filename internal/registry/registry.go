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
	"time"
)

// Key is what a Hello resolves to. The build (the executable's hash) is judged
// on top of it, see Find.
type Key struct {
	Instance string // broker instance id, spec 03 §1
	Service  string
	Version  string
	// Variant tells instances apart that clients don't share although service and version
	// are the same: those of own builds. Empty for a defined service.
	Variant string
}

// Entry is one live backend. What describes it doesn't change once it is in the
// registry, and may be read on any goroutine; it may be used after it has left.
type Entry[H any] struct {
	Key
	PID     int
	ExePath string   // as the kernel knew it when the backend registered
	ExeHash [32]byte // BLAKE3 of the executable file
	Pipe    string   // the backend's own socket
	Since   time.Time
	// Handle is the broker's means to reach the backend.
	Handle H

	LastHello time.Time // when a client was sent to it last; the registry's owner's
	LastError string    // why the last handoff to it that failed did; the registry's owner's
}

// Registry holds the live backends. The zero value is empty and ready. It belongs to
// one goroutine.
type Registry[H any] struct {
	entries map[Key][]*Entry[H] // each the newest last
	count   int
}

// Add enters e, which may share its key with others: any number of instances of
// one version can live side by side.
func (r *Registry[H]) Add(e *Entry[H]) {
	if r.entries == nil {
		r.entries = make(map[Key][]*Entry[H])
	}
	r.entries[e.Key] = append(r.entries[e.Key], e)
	r.count++
}

// Remove takes e out and reports whether it was in.
func (r *Registry[H]) Remove(e *Entry[H]) bool {
	list := r.entries[e.Key]
	at := slices.Index(list, e)
	if at < 0 {
		return false
	}
	if list = slices.Delete(list, at, at+1); len(list) == 0 {
		delete(r.entries, e.Key)
	} else {
		r.entries[e.Key] = list
	}
	r.count--
	return true
}

// Find returns the backend of key that entered last and passes fits, or nil. fits must
// not change the registry.
func (r *Registry[H]) Find(key Key, fits func(*Entry[H]) bool) *Entry[H] {
	for _, e := range slices.Backward(r.entries[key]) {
		if fits(e) {
			return e
		}
	}
	return nil
}

// All returns every backend, ordered by service, version, Since and instance; of
// those that agree in all, the one that entered first.
func (r *Registry[H]) All() []*Entry[H] {
	all := make([]*Entry[H], 0, r.count)
	for _, list := range r.entries {
		all = append(all, list...)
	}
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
func (r *Registry[H]) Len() int { return r.count }

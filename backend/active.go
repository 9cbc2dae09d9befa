package backend

import (
	"time"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/wire"
)

// The broker is told how many connections the backend has, for people who ask (usher ps).
// It is told activeDelay after the number has changed, and only where it differs by then
// from what was said last: a connection that is over sooner costs no message, a busy
// backend ten a second, and an idle one nothing.

const activeDelay = 100 * time.Millisecond

// populationChanged has the broker told, in a while. It is called on any goroutine.
func (l *Listener) populationChanged() {
	l.loop.Post(func() {
		l.tellAt = time.Now().Add(activeDelay)
		l.loop.WakeAt(l.tellAt)
	})
}

// tickActive tells the broker when it is time, and returns when that is.
func (l *Listener) tickActive(now time.Time) (next time.Time) {
	if l.tellAt.IsZero() || now.Before(l.tellAt) {
		return l.tellAt
	}
	l.tellAt = time.Time{}
	l.tellActive()
	return time.Time{}
}

// tellActive tells a broker that does not know it how many connections there are.
func (l *Listener) tellActive() {
	l.population.untold.Store(false) // before the number is read: what changes from here on is told
	n := l.population.alive.Load()
	ch := l.reg.current()
	if ch == nil || ch.told == n || ch.capabilities&frame.CapUnknownMessages == 0 {
		return
	}
	ch.told = n
	l.note(ch, &wire.Note{Kind: wire.NoteKind_NOTE_KIND_ACTIVE, Active: uint64(max(n, 0))})
}

package backend

import (
	"net"
	"sync"
	"time"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/wire"
)

// The broker is told how many connections the backend has, for people who ask (usher ps).
// It is told activeDelay after the number has changed, and only where it differs by then
// from what was said last: a connection that is over sooner costs no message, a busy
// backend ten a second, and an idle one nothing.
//
// A broker that lets the backend go hears of each end from then on, on a channel that is
// kept for that until there is no connection any more. Nothing else comes on it: offers
// came before.

const activeDelay = 100 * time.Millisecond

// populationChanged has the broker told, in a while. It is called on any goroutine.
func (l *Listener) populationChanged() {
	posted := l.loop.Post(func() {
		l.tellAt = time.Now().Add(activeDelay)
		l.loop.WakeAt(l.tellAt)
	})
	if !posted {
		l.tellLeft()
	}
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
	_ = l.note(ch, &wire.Note{Kind: wire.NoteKind_NOTE_KIND_ACTIVE, Active: uint64(max(n, 0))})
}

// farewell is the channel that is kept behind the loop's end; nil for none.
type farewell struct {
	mu sync.Mutex
	ch *brokerChannel
}

// keepChannel takes a channel out of the loop, and keeps it.
func (l *Listener) keepChannel(s *served) {
	l.loop.Remove(s)
	delete(l.channels, s)
	l.farewell.ch = s.brokerChannel
	s.ended <- net.ErrClosed
}

// tellLeft is tellActive behind the loop's end, on any goroutine. It closes the channel
// when nothing is left, or the broker has gone.
func (l *Listener) tellLeft() {
	f := &l.farewell
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ch == nil {
		return
	}
	l.population.untold.Store(false)
	n := l.population.alive.Load()
	var err error
	if f.ch.told != n {
		f.ch.told = n
		err = l.note(f.ch, &wire.Note{Kind: wire.NoteKind_NOTE_KIND_ACTIVE, Active: uint64(max(n, 0))})
	}
	switch {
	case err != nil:
		_ = f.ch.Close()
	case n <= 0:
		l.part(f.ch)
	default:
		return
	}
	f.ch = nil
}

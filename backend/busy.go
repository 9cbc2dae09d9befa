package backend

import (
	"context"
	"time"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/wait"
	"github.com/seed-7265657e/usher/internal/wire"
)

// A backend without a connection may be at work all the same: it writes back what it has
// cached, or builds an index. Options.Busy says so when the backend is about to go. It is
// called on a goroutine of its own, for an application may hold a lock for as long as it
// works, and connections do not wait for that; the goroutine ends when Busy returns.

// busyPoll is how often a backend that is to end asks whether it is still at work. One that
// is only idle is asked once an idle time.
const busyPoll = 100 * time.Millisecond

// askBusy has the backend go, unless it is at work. An answer that takes longer than to the
// next question is one: the backend is at work.
func (l *Listener) askBusy() {
	if l.asking {
		l.stay()
		return
	}
	l.asking = true
	go func() {
		busy := l.opts.Busy()
		l.loop.Post(func() {
			l.asking = false
			l.toldBusy(busy, time.Now())
		})
	}()
}

// toldBusy goes on with the answer.
func (l *Listener) toldBusy(busy bool, now time.Time) {
	since, idle := l.population.idleSince()
	switch {
	case l.closing || !idle || now.Before(since.Add(l.opts.IdleTimeout)): // a connection has come since
	case busy:
		l.stay()
	default:
		l.busy = false
		l.wouldGo()
	}
}

// stay tells the broker that this backend is at work, and is asked again.
func (l *Listener) stay() {
	l.busy = true
	l.sayBusy(l.reg.current())
}

// sayBusy tells a broker, nil for none, that this backend is at work.
func (l *Listener) sayBusy(ch *brokerChannel) {
	if ch != nil && ch.capabilities&frame.CapUnknownMessages != 0 {
		_ = l.note(ch, &wire.Note{Kind: wire.NoteKind_NOTE_KIND_BUSY})
	}
}

// part closes the channel of a backend that was let go and has no connection any more. One
// that is still at work says so first.
func (l *Listener) part(ch *brokerChannel) {
	if l.opts.Busy == nil {
		_ = ch.Close()
		return
	}
	go func() {
		if l.opts.Busy() {
			l.sayBusy(ch)
		}
		_ = ch.Close()
	}()
}

// awaitWork returns nil when the application is not at work, or ctx's error.
func (l *Listener) awaitWork(ctx context.Context) error {
	if l.opts.Busy == nil {
		return nil
	}
	over := make(chan struct{})
	go func() {
		for l.opts.Busy() {
			if !wait.For(ctx, busyPoll) {
				return
			}
		}
		close(over)
	}()
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

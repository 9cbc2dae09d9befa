package backend

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/wire"
)

// population counts the connections that the application has, or is about to get.
//
// Whoever asks whether it is empty asks twice with a time between: one that is being handed
// over is not in it yet. So an idle backend does not go by itself where it has a broker,
// which knows what is on its way.
type population struct {
	alive atomic.Int64
	quiet atomic.Int64 // when it last became empty, in nanoseconds since start
	start time.Time

	// changed is called, on any goroutine, when the number has changed and untold is not
	// set yet, which it is from then on.
	changed func()
	untold  atomic.Bool

	mu    sync.Mutex
	empty chan struct{} // closed when it is empty and somebody waits for that
}

// member is one connection's place in it.
type member struct {
	of   *population
	gone atomic.Bool
}

func (p *population) join() *member {
	p.alive.Add(1)
	p.change()
	return &member{of: p}
}

// leave is called when the connection is closed, once or again.
func (m *member) leave() {
	if m.gone.Swap(true) {
		return
	}
	p := m.of
	p.quiet.Store(int64(time.Since(p.start)))
	defer p.change()
	if p.alive.Add(-1) > 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.empty != nil && p.alive.Load() == 0 {
		close(p.empty)
		p.empty = nil
	}
}

func (p *population) change() {
	if !p.untold.Swap(true) {
		p.changed()
	}
}

// idleSince is since when there has been no connection; false while there is one.
func (p *population) idleSince() (time.Time, bool) {
	if p.alive.Load() > 0 {
		return time.Time{}, false
	}
	return p.start.Add(time.Duration(p.quiet.Load())), true
}

// wait returns nil when there is no connection, or ctx's error.
func (p *population) wait(ctx context.Context) error {
	p.mu.Lock()
	if p.alive.Load() == 0 {
		p.mu.Unlock()
		return nil
	}
	if p.empty == nil {
		p.empty = make(chan struct{})
	}
	empty := p.empty
	p.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Drain closes the Listener, and returns when every connection that it gave to Accept has
// been closed, and Options.Busy says that nothing is at work, or with ctx's error. Nothing
// that was claimed is lost: see Close.
func (l *Listener) Drain(ctx context.Context) error {
	err := l.Close()
	waitErr := l.population.wait(ctx)
	if waitErr == nil {
		waitErr = l.awaitWork(ctx)
	}
	if waitErr != nil {
		return waitErr
	}
	return err
}

// tickIdle looks whether the backend has been without a connection for its time, and
// returns when to look again. It looks once an idle time, not at each connection's end.
func (l *Listener) tickIdle(now time.Time) (next time.Time) {
	after := l.opts.IdleTimeout
	if after <= 0 || l.closing {
		return time.Time{}
	}
	if now.Before(l.idleCheck) {
		return l.idleCheck
	}
	since, idle := l.population.idleSince()
	switch {
	case !idle:
		l.idleCheck = now.Add(after)
	case now.Before(since.Add(after)):
		l.idleCheck = since.Add(after)
	default:
		l.idleCheck = now.Add(after) // where the broker has a connection on its way, it says nothing
		if l.opts.Busy != nil {
			l.askBusy()
		} else {
			l.wouldGo()
		}
	}
	return l.idleCheck
}

// wouldGo asks the broker to let this backend go. One without a broker goes by itself.
func (l *Listener) wouldGo() {
	if ch := l.reg.current(); ch != nil {
		if ch.capabilities&frame.CapUnknownMessages != 0 { // else it would end the channel
			_ = l.note(ch, &wire.Note{Kind: wire.NoteKind_NOTE_KIND_IDLE})
		}
		return
	}
	l.opts.Logger.Info("idle, and without a broker: ending")
	go func() { _ = l.Close() }()
}

package loop

import (
	"time"

	"github.com/seed-7265657e/usher/internal/sock"
)

// AcceptBackoff is how long an Acceptor pauses after a failure: a full descriptor table,
// which passes, must not cost CPU meanwhile (spec 03 §13).
const AcceptBackoff = 50 * time.Millisecond

// Acceptor is a listening socket in a loop's set. All of it is for the loop's
// goroutine; before Run, its maker may call all.
type Acceptor struct {
	*sock.Listener // borrowed

	loop    *Loop
	accept  Handler
	watched bool
	resume  time.Time // when to begin again after a failure; zero when not failing
}

// NewAcceptor has accept called, once Start has been, whenever from, which stays
// open for as long as the Acceptor is used, has a connection. accept takes one, and says
// Accepted or Pause.
func NewAcceptor(l *Loop, from *sock.Listener, accept Handler) *Acceptor {
	return &Acceptor{Listener: from, loop: l, accept: accept}
}

// Start begins, or begins again.
func (a *Acceptor) Start() {
	if a.watched {
		return
	}
	if a.watched = a.loop.Add(a.Listener, a.accept) == nil; !a.watched {
		a.Pause()
	}
}

// Stop ends what Start began.
func (a *Acceptor) Stop() {
	a.loop.Remove(a.Listener)
	a.watched, a.resume = false, time.Time{}
}

// Accepted notes that there is no failure any more.
func (a *Acceptor) Accepted() { a.resume = time.Time{} }

// Failing reports whether nothing was accepted since the last Pause.
func (a *Acceptor) Failing() bool { return !a.resume.IsZero() }

// Pause stops for AcceptBackoff. Tick begins again.
func (a *Acceptor) Pause() {
	a.Stop()
	a.resume = time.Now().Add(AcceptBackoff)
	a.loop.WakeAt(a.resume)
}

// Tick is called by the loop's tick: it begins again when that is due, and returns when
// it is.
func (a *Acceptor) Tick(now time.Time) (next time.Time) {
	switch {
	case a.watched || a.resume.IsZero():
		return time.Time{}
	case now.Before(a.resume):
		return a.resume
	}
	a.Start() // which keeps resume: it fails until something is accepted
	return time.Time{}
}

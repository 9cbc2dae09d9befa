package broker

import (
	"time"
)

// Instances outlive their broker, and register again with the next one, or are passed to it.
// Until they are there, or the time for that is over, none is started in their place, and
// nobody is told that those that are there are all.

// orphans are the instances of the broker before this one, as the loop knows them.
type orphans struct {
	by   time.Time // until when they may register; zero where none does
	left int       // so many are about to; 0 where that is not known
	then []func()  // what waits for them, beside clients; each looks whether it still applies
}

const (
	// reunion is how long after its start a broker waits for instances of its predecessor,
	// where there are sockets of such.
	reunion = 200 * time.Millisecond
	// succession is how long it waits for those of the one whose place it has taken.
	succession = time.Second
)

func (o *orphans) awaited(now time.Time) bool { return now.Before(o.by) }

// orphanCame counts a backend that has registered, or was passed. One that is no orphan's counts too: at worst a second
// instance is started.
func (s *server) orphanCame() {
	if o := &s.orphans; o.left > 0 {
		if o.left--; o.left == 0 {
			s.orphansOver()
		}
	}
}

// tickOrphans goes on when the time for orphans is over, and returns when that will be.
func (s *server) tickOrphans(now time.Time) (next time.Time) {
	if o := &s.orphans; !o.by.IsZero() && !o.awaited(now) {
		s.orphansOver()
	}
	return s.orphans.by
}

// orphansOver goes on with what waits for orphans: no more come.
func (s *server) orphansOver() {
	then := s.orphans.then
	s.orphans = orphans{}
	s.startAwaited()
	for _, f := range then {
		f()
	}
}

// startAwaited goes on with those who wait for an instance that is not being started yet.
func (s *server) startAwaited() {
	var starters []*connection
	for _, all := range s.waiting.connections {
		for _, c := range all {
			if c.waiter.starts != nil {
				starters = append(starters, c)
			}
		}
	}
	for _, c := range starters {
		c.noOrphan()
	}
}

// noOrphan goes on when no instance of an earlier broker has registered in its time, or an
// upgrade has failed: one is started.
func (c *connection) noOrphan() {
	c.leaveQueue()
	w := c.waiter
	c.waiter.starts = nil
	defer w.starts.close()
	c.enter(phaseResolving, w.deadline)
	if c.held(w.target.request, w.target.hello) {
		return
	}
	c.awaitStart(w.target, w.starts)
}

package broker

import (
	"time"

	"github.com/seed-7265657e/usher/internal/event"
)

// steps remembers when a connection passed which step of its life, for the debug
// log. The zero value remembers nothing.
type steps struct {
	on bool
	at [12]event.Step
	n  int
	// prefix tells the steps of a second attempt from the first's.
	prefix string
}

// start begins with the first step; on says whether anybody will look.
func (s *steps) start(now time.Time, on bool) {
	s.on = on
	s.markAt("accept", now)
}

func (s *steps) mark(name string) {
	if s.on {
		s.markAt(name, time.Now())
	}
}

func (s *steps) markAt(name string, t time.Time) {
	if s.on && s.n < len(s.at) && !t.IsZero() {
		s.at[s.n] = event.Step{Name: s.prefix + name, At: t}
		s.n++
	}
}

func (s *steps) passed() []event.Step { return s.at[:s.n] }

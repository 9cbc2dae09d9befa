package broker

import (
	"log/slog"
	"time"
)

// steps remembers when a connection passed which step of its life, for the debug
// log. The zero value remembers nothing.
type steps struct {
	on bool
	at [12]step
	n  int
	// prefix tells the steps of a second attempt from the first's.
	prefix string
}

type step struct {
	name string
	time time.Time
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
		s.at[s.n] = step{s.prefix + name, t}
		s.n++
	}
}

func (s *steps) began() time.Time { return s.at[0].time }

// LogValue shows each step with the µs since the first, and the first as Unix
// time in µs, so that logs of several processes can be laid side by side.
func (s *steps) LogValue() slog.Value {
	attrs := make([]slog.Attr, 0, s.n+1)
	attrs = append(attrs, slog.Int64("began_unix_us", s.began().UnixMicro()))
	for _, step := range s.at[:s.n] {
		attrs = append(attrs, slog.Int64(step.name+"_us", step.time.Sub(s.began()).Microseconds()))
	}
	return slog.GroupValue(attrs...)
}

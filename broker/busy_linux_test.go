package broker_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// startedBusy is what a started instance says of its work: it is at work while a file is
// there, or now and then; nil where it does not tell.
func startedBusy() func() bool {
	mode := os.Getenv(envMode)
	if mode == "busy now and then" {
		return func() bool { return rand.N(2) == 0 }
	}
	mark, marked := strings.CutPrefix(mode, "busy while ")
	if !marked {
		return nil
	}
	return func() bool {
		_, err := os.Stat(mark)
		return err == nil
	}
}

// working is a site whose instances are at work until done is called.
func working(t *testing.T, start string) (s *site, done func()) {
	t.Helper()
	mark := filepath.Join(t.TempDir(), "work")
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(mark) })
	return starting(t, start, "busy while "+mark), func() {
		t.Helper()
		if err := os.Remove(mark); err != nil {
			t.Fatal(err)
		}
	}
}

// seenBusy waits until the one instance is shown as busy in a state.
func (s *site) seenBusy(state string) {
	s.tb.Helper()
	testutil.WaitFor(s.tb, "it is "+state+", and at work", func() bool {
		all := s.instances()
		return len(all) == 1 && all[0].State == state && all[0].Busy
	})
}

// TestBusyInstanceStays: one that is at work when its idle time is over serves who comes
// then, is asked again, and goes when it is idle.
func TestBusyInstanceStays(t *testing.T) {
	s, done := working(t, `idle = "20ms"`)
	first := pidOf(t, s.mustAsk(demoVersion))
	s.seenBusy("ready")
	kept := func() int { return strings.Count(strings.Join(s.events(), " "), "instance.busy") }
	testutil.WaitFor(t, "that it stays is kept", func() bool { return kept() > 0 })
	before := kept() // twice, where its time was over before its first client had come
	c, ask := s.stay(demoVersion)
	if pid := pidOf(t, ask()); pid != first {
		t.Errorf("served by %d, not by %d, which is at work", pid, first)
	}
	testutil.WaitFor(t, "with a connection it is not shown as busy", func() bool {
		all := s.instances()
		return len(all) == 1 && !all[0].Busy && all[0].Connections != nil && *all[0].Connections == 1
	})
	_ = c.Close()
	s.seenBusy("ready") // asked again
	testutil.WaitFor(t, "that it stays is kept once more", func() bool { return kept() > before })
	if got := s.events(); slices.Contains(got, "instance.let_go") || kept() > 3 {
		t.Errorf("events %q", got)
	}
	done()
	testutil.WaitFor(t, "it has gone", func() bool { return slices.Contains(s.events(), "DIED_IDLE") })
	if second := pidOf(t, s.mustAsk(demoVersion)); second == first {
		t.Error("the one that has gone answers")
	}
}

// TestWorkIsWaitedFor: who stops or restarts an instance that is at work does not end its
// work. It gets no clients any more, and ends behind it.
func TestWorkIsWaitedFor(t *testing.T) {
	for _, test := range []struct {
		name          string
		verb          wire.AdminVerb
		most          time.Duration
		results, text string
	}{
		{"stop", verbStop, 20 * time.Millisecond, "drains", "is at work, and has not ended yet"},
		{"restart", verbRestart, patience, "started drains", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, done := working(t, "")
			first := pidOf(t, s.mustAsk(demoVersion))
			o := s.control(test.verb, "", test.most)
			drains := func() (found bool) {
				for _, i := range s.instances() {
					found = found || i.PID == first && i.State == "draining" && i.Busy
				}
				return found
			}
			testutil.WaitFor(t, "it drains, and is at work", drains)
			if test.verb == verbStop { // which may not have known then
				o = s.control(test.verb, "", test.most)
			}
			if n := len(o.Instances); o.results() != test.results || o.Instances[n-1].PID != first || o.Instances[n-1].Text != test.text {
				t.Errorf("got %+v", o)
			}
			second := pidOf(t, s.mustAsk(demoVersion))
			if second == first {
				t.Error("it is given clients")
			}
			if !drains() {
				t.Error("it has ended before its work")
			}
			if slices.Contains(s.events(), "instance.busy") {
				t.Error("it is said to stay")
			}
			done()
			testutil.WaitFor(t, "it has ended", func() bool {
				all := s.instances()
				return len(all) == 1 && all[0].PID == second
			})
		})
	}
}

// TestBusyOfOldKinds: a backend that knows notes and not BUSY goes when it is idle; and of
// one that says BUSY and IDLE as it likes nothing is lost.
func TestBusyOfOldKinds(t *testing.T) {
	s := newSite(t, nil)
	say := func(b *fake, kind wire.NoteKind) {
		t.Helper()
		note, err := frame.Append(nil, frame.ChannelNote(&wire.Note{Kind: kind}))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.ch.Send(note); err != nil {
			t.Fatal(err)
		}
	}
	old, newer := s.fake(demoVersion), s.fake("2.0.0")
	say(old, wire.NoteKind_NOTE_KIND_IDLE)
	say(newer, wire.NoteKind_NOTE_KIND_BUSY)
	testutil.WaitFor(t, "one is let go, the other stays", func() bool {
		var ready []bool
		for _, i := range s.instances() {
			if i.State == "ready" {
				ready = append(ready, i.Busy)
			}
		}
		return slices.Equal(ready, []bool{true})
	})
	say(newer, wire.NoteKind_NOTE_KIND_IDLE)
	testutil.WaitFor(t, "both are let go", func() bool { return s.Backends() == 0 })
	for _, i := range s.instances() {
		if i.Busy {
			t.Error("one that has said IDLE is shown as busy")
		}
	}
}

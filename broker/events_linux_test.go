package broker_test

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-7265657e/usher/internal/eventlog"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// events are what the site's broker has kept of demo, in the order of time.
func (s *site) events() (events []string) {
	s.tb.Helper()
	err := eventlog.Read(filepath.Join(s.dir, "logs", "events"), func(e *wire.LifecycleEvent) error {
		if e.ServiceName == demo {
			events = append(events, eventlog.Name(e))
		}
		return nil
	})
	if err != nil {
		s.tb.Fatal(err)
	}
	return events
}

// TestEvents: the start, the readiness and the end of a real process are kept, with what
// became of its clients.
func TestEvents(t *testing.T) {
	s := starting(t, "", "")
	pid, err := strconv.Atoi(word(s.mustAsk(demoVersion), "pid"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "the end is kept", func() bool { return slices.Contains(s.events(), "DIED_CRASH") })
	want := []string{"SPAWN_ATTEMPT", "SPAWN", "DIED_CRASH"}
	if got := s.events(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEventsOfFailedStart(t *testing.T) {
	s := starting(t, "", "exits")
	if answer, err := s.who(demoVersion); err == nil {
		t.Fatalf("got %q", answer)
	}
	testutil.WaitFor(t, "the refusal is kept", func() bool { return slices.Contains(s.events(), "HELLO_REFUSED") })
	if got := strings.Join(s.events(), " "); !strings.HasPrefix(got, "SPAWN_ATTEMPT DIED_CRASH HELLO_REFUSED") {
		t.Errorf("got %s", got)
	}
}

package eventlog_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/eventlog"
	"github.com/seed-7265657e/usher/internal/logfile"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

const patience = 30 * time.Second

var about = event.Backend{Service: "demo-svc", Version: "1.4.0", PID: 4321}

// all is what the file holds.
func all(t *testing.T, path string) (events []*wire.LifecycleEvent) {
	t.Helper()
	err := eventlog.Read(path, func(e *wire.LifecycleEvent) error { events = append(events, e); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// short is an event in one line.
func short(e *wire.LifecycleEvent) string {
	return strings.TrimSpace(strings.Join([]string{eventlog.Name(e), e.ServiceName, e.Extra["version"], e.Reason}, " "))
}

// TestFacts: each fact is the event that v1 has for it, and an end never says more than
// was known.
func TestFacts(t *testing.T) {
	testutil.Leaks(t)
	idle := event.Backend{Service: "idle-svc", PID: 7}
	path := filepath.Join(t.TempDir(), "state", "events")
	w := eventlog.NewWriter(path, "shared", slog.New(slog.DiscardHandler))
	var want []string
	for _, c := range []struct {
		fact event.Event
		want string
	}{
		{event.Serving{Socket: "/s"}, "broker.serving   at /s"},
		{event.Started{Backend: about, Log: "/l"}, "SPAWN_ATTEMPT demo-svc 1.4.0 its log is /l"},
		{event.Ready{Backend: about, After: time.Second}, "SPAWN demo-svc 1.4.0 ready after 1s"},
		{event.Registered{Backend: about}, "SPAWN demo-svc 1.4.0 registered"},
		{event.BackendTaken{Backend: about}, "backend.taken_over demo-svc 1.4.0 taken over from the broker before"},
		{event.StartFailed{Backend: about, Problem: "why"}, "DIED_CRASH demo-svc 1.4.0 why"},
		{event.StartFailed{Backend: event.Backend{Service: "s"}, Problem: "no file"}, "SPAWN_ATTEMPT s  no file"},
		{event.Exited{Backend: about, Exit: "exited with code 0", Clean: true}, "DIED_SHUTDOWN demo-svc 1.4.0 exited with code 0"},
		{event.Exited{Backend: about, Exit: "was ended by signal: killed"}, "DIED_CRASH demo-svc 1.4.0 was ended by signal: killed"},
		{event.Exited{Backend: about}, "backend.exited demo-svc 1.4.0 ended; how is not known"},
		{event.LetGo{Backend: idle, Why: event.Idle}, "instance.let_go idle-svc  idle"},
		{event.Exited{Backend: idle, Exit: "exited with code 0", Clean: true}, "DIED_IDLE idle-svc  it was idle: exited with code 0"},
		{event.LetGo{Backend: about, Why: event.AtWill}, "instance.let_go demo-svc 1.4.0 stopped"},
		{event.Exited{Backend: about}, "DIED_SHUTDOWN demo-svc 1.4.0 stopped"},
		{event.LetGo{Backend: about, Why: event.Replaced}, "instance.let_go demo-svc 1.4.0 replaced"},
		{event.Exited{Backend: about, Exit: "exited with code 0", Clean: true}, "REPLACED_BY_NEWER demo-svc 1.4.0 it was replaced: exited with code 0"},
		{event.Busy{Backend: about}, "instance.busy demo-svc 1.4.0 it has no connection, and is at work"},
		{event.ProcessStarted{Backend: about, Log: "/l"}, "SPAWN demo-svc 1.4.0 for one connection; its log is /l"},
		{event.ProcessStarted{Backend: about, Problem: "no file"}, "SPAWN_ATTEMPT demo-svc 1.4.0 no file"},
		{event.ProcessEnded{Backend: about, Exit: "exited with code 0"}, "DIED_SHUTDOWN demo-svc 1.4.0 exited with code 0"},
		{event.ProcessEnded{Backend: about, Exit: "exited with code 1", Failed: true}, "DIED_CRASH demo-svc 1.4.0 exited with code 1"},
		{event.ProcessEnded{Backend: about}, "process.ended demo-svc 1.4.0 ended; how is not known"},
		{event.Paused{Service: "demo-svc"}, "service.paused demo-svc"},
		{event.Resumed{Service: "demo-svc", Version: "1.4.0", Waited: 2}, "service.resumed demo-svc 1.4.0 2 waited"},
		{event.UpgradeFailed{Problem: "it ended"}, "broker.upgrade_failed   it ended"},
		{event.Refused{Code: "C", Reason: "because", Service: "s"}, "HELLO_REFUSED s  C: because"},
		{event.Handoff{Verdict: event.Adopted}, ""},
		{event.Handoff{Verdict: "unknown", Stage: "AwaitAck", Reason: "BackendAckTimeout", Backend: about},
			"PROTOCOL_DOWNGRADE demo-svc 1.4.0 AwaitAck: BackendAckTimeout"},
		{event.Reconnected{}, ""},
		{event.Stays{Connections: 2}, "broker.stays   connections are joined to programs through it"},
		{event.Draining{Cause: "told to"}, "broker.draining   told to"},
		{event.Stopped{}, "DIED_SHUTDOWN"},
	} {
		w.Note(c.fact)
		if c.want != "" {
			want = append(want, c.want)
		}
	}
	w.Close(patience)
	var got []string
	for _, e := range all(t, path) {
		got = append(got, short(e))
		if e.BrokerInstance != "shared" || e.TsMs == 0 || e.SeverityText == "" {
			t.Errorf("got %+v", e)
		}
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}

// TestCostsNothing: what happens with every handoff is not kept, and costs no memory.
func TestCostsNothing(t *testing.T) {
	w := eventlog.NewWriter(filepath.Join(t.TempDir(), "events"), "shared", slog.New(slog.DiscardHandler))
	defer w.Close(patience)
	n := testing.AllocsPerRun(100, func() {
		w.Note(event.Handoff{Verdict: event.Adopted, ConnectionID: 7})
		w.Note(event.Reconnected{ConnectionID: 7})
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestBounded: a long reason is cut, every event stays below the bound of spec 03 §15,
// and both files below theirs; what remains are the last ones, whole.
func TestBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	const most = 8000
	for part := range 8 { // a Writer takes in no more at once
		w := eventlog.NewWriter(path, "shared", slog.New(slog.DiscardHandler))
		for n := range most / 8 {
			w.Note(event.StartFailed{Backend: about, Problem: fmt.Sprintf("%d %s\xff", part*most/8+n, strings.Repeat("ü", 400))})
		}
		w.Close(patience)
	}
	events := all(t, path)
	first := 0
	for i, e := range events {
		if n := len(wire.Marshal(e)); n > 512 {
			t.Fatalf("an event of %d bytes", n)
		}
		var number int
		if _, err := fmt.Sscan(e.Reason, &number); err != nil {
			t.Fatalf("%q: %v", e.Reason, err)
		}
		if i == 0 {
			first = number
		}
		if number != first+i {
			t.Fatalf("%d comes behind %d", number, first+i-1)
		}
	}
	if first == 0 || first+len(events) != most {
		t.Errorf("%d to %d are there", first, first+len(events))
	}
	for _, file := range []string{path, logfile.Older(path)} {
		if fi, err := os.Stat(file); err != nil || fi.Size() > logfile.Max || fi.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", fi, err)
		}
	}
}

// TestFlood: what peers cause at will is kept up to a bound, what is left out is counted,
// and what they can't cause is all there.
func TestFlood(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	w := eventlog.NewWriter(path, "shared", slog.New(slog.DiscardHandler))
	const refused = 500
	for range refused {
		w.Note(event.Refused{Code: "C"})
	}
	w.Note(event.Registered{Backend: about})
	w.Close(patience)
	kept, lost, registered := 0, 0, 0
	for _, e := range all(t, path) {
		switch eventlog.Name(e) {
		case "HELLO_REFUSED":
			kept++
		case "RESOURCE_PRESSURE":
			var n int
			_, _ = fmt.Sscan(e.Extra["count"], &n)
			lost += n
		case "SPAWN":
			registered++
		}
	}
	if kept+lost != refused || kept < 100 || lost == 0 || registered != 1 {
		t.Errorf("%d kept, %d lost, %d registered", kept, lost, registered)
	}
}

// TestProcessesOfConnections: of those of which there is one with each connection a few of
// each kind and service are kept, so that they don't drive out the others; how many more
// there were is said.
func TestProcessesOfConnections(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	w := eventlog.NewWriter(path, "shared", slog.New(slog.DiscardHandler))
	const each = 40
	began := time.Now()
	for n := range each {
		about := about
		about.PID = n + 1
		w.Note(event.ProcessStarted{Backend: about, Log: "/l"})
		w.Note(event.ProcessEnded{Backend: about, Exit: "exited with code 0"})
	}
	w.Note(event.ProcessEnded{Backend: about, Exit: "exited with code 1", Failed: true})
	w.Note(event.ProcessStarted{Backend: about, Problem: "no file"})
	w.Note(event.ProcessStarted{Backend: event.Backend{Service: "other-svc", PID: 7}, Log: "/l"})
	w.Close(patience)
	if time.Since(began) > time.Minute/2 {
		t.Skip("the machine is too slow")
	}
	kept, lost := make(map[string]int), 0
	for _, e := range all(t, path) {
		kept[eventlog.Name(e)+" "+e.ServiceName]++
		n, _ := strconv.Atoi(e.Extra["count"])
		lost += n
	}
	delete(kept, "RESOURCE_PRESSURE ")
	want := map[string]int{"SPAWN demo-svc": 16, "DIED_SHUTDOWN demo-svc": 16, "DIED_CRASH demo-svc": 1, "SPAWN_ATTEMPT demo-svc": 1, "SPAWN other-svc": 1}
	if !maps.Equal(kept, want) || lost != 2*(each-16) {
		t.Errorf("kept %v, want %v; %d are said to be missing", kept, want, lost)
	}
}

// TestStuckFile: a file that takes nothing, here a pipe that nobody reads, never holds up
// who notes, and Close no longer than its patience.
func TestStuckFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	unread, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	w := eventlog.NewWriter(path, "shared", slog.New(slog.DiscardHandler))
	for range 5000 {
		w.Note(event.Registered{Backend: about})
	}
	w.Close(time.Millisecond)
	_ = unread.Close()
}

// TestNowhere: a file that can't be made is said once.
func TestNowhere(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	w := eventlog.NewWriter(dir+"/file/events", "shared", slog.New(slog.NewTextHandler(&log, nil)))
	w.Note(event.Stopped{})
	w.Note(event.Stopped{})
	w.Close(patience)
	if n := strings.Count(log.String(), "events are not kept"); n != 1 {
		t.Errorf("said %d times: %s", n, &log)
	}
}

// TestDamaged: bytes that are no event cost no event.
func TestDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	for range 2 {
		w := eventlog.NewWriter(path, "shared", slog.New(slog.DiscardHandler))
		w.Note(event.Registered{Backend: about})
		w.Close(patience)
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("\x50\x08half an event"); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	if events := all(t, path); len(events) != 2 {
		t.Errorf("got %d events", len(events))
	}
	if events := all(t, filepath.Join(t.TempDir(), "none")); events != nil {
		t.Errorf("no file has %v", events)
	}
}

// TestFollow: who follows sees every event once, from before the file is there on, and
// while it moves away several times.
func TestFollow(t *testing.T) {
	testutil.Leaks(t)
	path := filepath.Join(t.TempDir(), "later", "events")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	const most = 12000
	var mu sync.Mutex
	seen := 0
	ended := make(chan error, 1)
	go func() {
		ended <- eventlog.Follow(ctx, path, func(e *wire.LifecycleEvent) error {
			mu.Lock()
			defer mu.Unlock()
			if want := fmt.Sprintf("%d ", seen); !strings.HasPrefix(e.Reason, want) {
				return fmt.Errorf("got %.20q, want %s", e.Reason, want)
			}
			seen++
			return nil
		})
	}()
	reached := func(n int) bool { mu.Lock(); defer mu.Unlock(); return seen == n || len(ended) > 0 }
	for n := 0; n < most; {
		w := eventlog.NewWriter(path, "shared", slog.New(slog.DiscardHandler))
		for range 600 { // less than one file: who sleeps through two moves misses some
			w.Note(event.StartFailed{Backend: about, Problem: fmt.Sprintf("%d %s", n, strings.Repeat("x", 300))})
			n++
		}
		w.Close(patience)
		testutil.WaitFor(t, "all is seen", func() bool { return reached(n) })
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

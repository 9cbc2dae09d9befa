//go:build linux

package languages

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/world"
)

const (
	service = "lines"
	version = "1.0.0"
	// patience bounds what must happen, on a busy machine too. It is a client's timeout, and
	// how long a backend has to acknowledge, where a test does not freeze it.
	patience = 30 * time.Second
	// ackDeadline is short, so that a frozen backend does not cost a test seconds.
	ackDeadline = 200 * time.Millisecond
	// inVain is the timeout of a client that gets no answer.
	inVain = time.Second
)

// fixture is a broker, any number of backends of one program, and the journal of what
// they ran.
type fixture struct {
	*world.World
	t          *testing.T
	program    backendProgram
	executable string
	journal    *os.File
	log        string // what the backends write down, by path: the journal's, or the log of those that the broker starts
	started    int
	atRest     int           // descriptors of a backend of this kind
	acks       time.Duration // how long a backend has to acknowledge
	patience   time.Duration // a client's timeout
	stopBroker func()
}

// newFixture is one whose backends have so much time to acknowledge.
func newFixture(t *testing.T, program backendProgram, acks time.Duration) *fixture {
	t.Helper()
	executable := program.executable(t)
	for _, language := range []string{"c", "node", "python"} { // so that go test does not take an older result
		files, _ := filepath.Glob(filepath.Join(examples, language, "*"))
		for _, file := range files {
			_, _ = os.Stat(file)
		}
	}
	w, err := world.New(context.Background(), service, executable)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fixture{World: w, t: t, program: program, executable: executable, acks: acks, patience: patience}
	if f.journal, err = os.OpenFile(w.Path("journal"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.journal.Close() })
	f.log = f.journal.Name()
	f.startBroker()
	return f
}

func (w *fixture) startBroker() {
	w.t.Helper()
	b, err := broker.Listen(broker.Options{
		Socket: w.Socket(), DefinitionDir: w.Definitions(), LogDir: w.logs(), AckDeadline: w.acks, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.stopBroker = testutil.Background(w.t, b.Serve)
}

func (w *fixture) logs() string { return w.Path("logs") }

// start runs a backend, and waits until the broker knows it.
func (w *fixture) start(f fault) *world.Process {
	w.t.Helper()
	w.started++
	c := w.program.command(w.t, w.executable, f)
	c.Name, c.Foreign, c.Stderr = fmt.Sprintf("backend-%d", w.started), true, w.journal
	c.Args = append(c.Args, service, version, w.Path(fmt.Sprintf("%d.sock", w.started)))
	p, err := w.Start(c)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.Registered(w.t.Context(), p); err != nil {
		w.t.Fatalf("%v\n%s", err, w.wrote())
	}
	return p
}

var lastRequest atomic.Int64

// ask makes a request under a name of its own.
func (w *fixture) ask(c clientProgram, early bool) result {
	w.t.Helper()
	return c.ask(w.t, w, fmt.Sprintf("request-%d", lastRequest.Add(1)), early)
}

// in is the fixture for a subtest.
func (w *fixture) in(t *testing.T) *fixture {
	sub := *w
	sub.t = t
	return &sub
}

// healthy makes a request that meets no fault.
func (w *fixture) healthy(c clientProgram, early bool) {
	w.t.Helper()
	got := w.ask(c, early)
	w.judge(got)
	if got.verdict != answered {
		w.t.Errorf("%s, early %t: %q %s", c.name, early, got.verdict, got.detail)
	}
}

// wrote is all that the backends wrote down.
func (w *fixture) wrote() string {
	w.t.Helper()
	content, err := os.ReadFile(w.log)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(content)
}

// judge holds results against what ran: nothing twice, what was answered once, what was
// not run never.
func (w *fixture) judge(results ...result) {
	w.t.Helper()
	ran := make(map[string]int)
	for line := range strings.Lines(w.wrote()) {
		ran[strings.TrimSuffix(line, "\n")]++
	}
	for _, r := range results {
		n := ran[r.id]
		switch {
		case r.verdict == "":
			w.t.Errorf("%s has no verdict: %s", r.id, r.detail)
		case n > 1:
			w.t.Errorf("%s ran %d times (%s)", r.id, n, r.verdict)
		case r.verdict == answered && n != 1, r.verdict == notRun && n != 0:
			w.t.Errorf("%s: %s, and ran %d times", r.id, r.verdict, n)
		}
	}
}

func (w *fixture) status() *world.Status {
	w.t.Helper()
	s, err := world.AskStatus(w.t.Context(), w.Socket())
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// descriptors is how many a backend holds.
func (w *fixture) descriptors(p *world.Process) int {
	w.t.Helper()
	n, err := p.Descriptors()
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// rests waits until a backend holds no more descriptors than one of its kind did at rest.
func (w *fixture) rests(p *world.Process) {
	w.t.Helper()
	testutil.WaitFor(w.t, fmt.Sprintf("%s back to %d descriptors", p.Name, w.atRest), func() bool { return w.descriptors(p) <= w.atRest })
}

// steady starts a backend that meets no fault, and learns what such a one holds at rest.
func (w *fixture) steady() *world.Process {
	w.t.Helper()
	p := w.start(fault{})
	conn, err := dialGo(w, "", false)
	if err != nil {
		w.t.Fatal(err)
	}
	w.atRest = w.descriptors(p) - 1 // the connection, which it has adopted
	_ = conn.Close()
	w.rests(p)
	return p
}

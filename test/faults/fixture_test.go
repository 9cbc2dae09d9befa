//go:build linux

package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/adminclient"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
	"github.com/seed-7265657e/usher/internal/world"
)

const (
	service = "faults"
	version = "1.0.0"
	// patience bounds what must happen, on a busy machine too. It is also how long a backend has
	// to acknowledge where a test does not freeze it.
	patience = 30 * time.Second
	// ackDeadline is short, so that a frozen backend does not cost a test seconds. That others
	// may miss it, too, on a busy machine, must change nothing.
	ackDeadline = 200 * time.Millisecond
)

// fixture is a broker's surroundings: a world with one broker process at a time, any
// number of backends, and the journal of what they ran.
type fixture struct {
	*world.World
	early   bool   // requests go along with Hello
	dialled func() // called, if set, before a request that doesn't
	t       *testing.T
	journal string
	broker  *process
	steady  *process // a backend that meets no fault
	// ackDeadline is the broker's.
	ackDeadline time.Duration
	started     int // processes
	lastID      atomic.Int64
}

// newFixture may be called in tests that run side by side, so the caller, or its
// parent test, looks for leaks in this process itself.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w, err := world.New(context.Background(), service, exe)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fixture{World: w, t: t, journal: w.Path("journal"), ackDeadline: patience}
	if err := os.WriteFile(f.journal, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// steadyFixture is one with a broker and one backend that meets no fault. The
// function it returns ends both, once they are back to what they held.
func steadyFixture(t *testing.T, early bool, ackDeadline time.Duration) (*fixture, func()) {
	t.Helper()
	w := newFixture(t)
	w.early, w.ackDeadline = early, ackDeadline
	w.startBroker(role{})
	w.steady = w.start("backend", role{})
	w.settled()
	brokerRests, steadyRests := w.broker.atRest(), w.steady.atRest()
	return w, func() {
		t.Helper()
		brokerRests()
		steadyRests()
		w.steady.quit()
		w.broker.quit()
	}
}

// process is a process in a role of this test binary, roles_test.go.
type process struct {
	*world.Process
	t *testing.T
}

func (w *fixture) start(name string, r role) *process {
	w.t.Helper()
	w.started++
	r.Socket, r.Definitions, r.Journal = w.Socket(), w.Definitions(), w.journal
	if r.AckDeadline == 0 {
		r.AckDeadline = w.ackDeadline
	}
	r.Pipe = w.Path(fmt.Sprintf("%d.sock", w.started))
	encoded, err := json.Marshal(r)
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := w.Start(world.Command{Name: name, Args: []string{os.Args[0], roleArgument, name, string(encoded)}, Stderr: os.Stderr})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := p.Ready(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	return &process{p, w.t}
}

func (w *fixture) startBroker(r role) { w.t.Helper(); w.broker = w.start("broker", r) }

// must fails the test at an error.
func (p *process) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatalf("process %d: %v", p.PID(), err)
	}
}

func (p *process) kill() { p.Kill() }

// quit lets the process end by itself and fails the test when it ends badly.
func (p *process) quit() {
	p.t.Helper()
	if err := p.Terminate(); err != nil {
		p.t.Errorf("process %d: %v", p.PID(), err)
	}
}

// died waits for a process that kills itself.
func (p *process) died() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := p.Wait(ctx)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		p.t.Fatalf("process %d was to kill itself: %v", p.PID(), err)
	}
}

// frozen waits until the process has stopped itself.
func (p *process) frozen() { p.t.Helper(); p.must(p.AwaitFrozen(context.Background())) }

// freeze stops it from outside.
func (p *process) freeze() { p.t.Helper(); p.must(p.Freeze(context.Background())) }

// thaw makes it go on, unless it has ended.
func (p *process) thaw() { _ = p.Thaw() }

func (p *process) fds() int {
	p.t.Helper()
	n, err := p.Descriptors()
	p.must(err)
	return n
}

func (p *process) goroutines() (n int) {
	p.t.Helper()
	p.must(p.Ask(context.Background(), question{}, &n))
	return n
}

// opened lists what the process has open, each as number=target.
func (p *process) opened() (open []string) {
	p.t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", p.PID())
	entries, err := os.ReadDir(dir)
	p.must(err)
	for _, e := range entries {
		target, _ := os.Readlink(filepath.Join(dir, e.Name()))
		open = append(open, e.Name()+"="+target)
	}
	return open
}

// fill leaves the process no descriptor to receive anything with.
func (p *process) fill() {
	p.t.Helper()
	limit := unix.Rlimit{Cur: 0, Max: uint64(1 << 10)}
	if err := unix.Prlimit(p.PID(), unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		p.t.Fatal(err)
	}
}

// atRest remembers a process' descriptors and goroutines; the function it
// returns waits until both are back. Call it when nothing is under way, see
// settled.
func (p *process) atRest() func() { p.t.Helper(); return p.restsLike(p) }

// restsLike is atRest for a process that has just begun, and may not have opened yet what it
// always has: like is one of its kind, at rest.
func (p *process) restsLike(like *process) func() {
	p.t.Helper()
	before, goroutines := like.opened(), like.goroutines()
	return func() {
		p.t.Helper()
		if !testutil.Settles(func() bool { return p.fds() <= len(before) }) {
			p.t.Fatalf("process %d had %d descriptors at rest, and has\n%q\nnow:\n%q", p.PID(), len(before), before, p.opened())
		}
		testutil.WaitFor(p.t, fmt.Sprintf("process %d back to %d goroutines", p.PID(), goroutines), func() bool { return p.goroutines() <= goroutines })
	}
}

// healthy makes one request that meets no fault: it is handed over and answered.
// It also empties the broker's failure window, which would end handoffs after 8
// faults in a row. Where the time to acknowledge is short a busy machine's backend may miss
// it, and the request is answered on another way.
func (w *fixture) healthy() {
	w.t.Helper()
	for end := time.Now().Add(patience); ; {
		got := w.request(patience)
		w.judge(got)
		switch {
		case got.verdict == answered && got.route == client.HandedOver:
			return
		case got.verdict != answered, w.ackDeadline == patience, time.Now().After(end):
			w.t.Errorf("after the fault: %s by %q, %v", got.verdict, got.route, got.err)
			return
		}
	}
}

// registered waits until the broker has n backends, each with its channel in
// hand: a registration's connection ends after that.
func (w *fixture) registered(n int) {
	w.t.Helper()
	testutil.WaitFor(w.t, fmt.Sprintf("%d backends registered", n), func() bool {
		s := w.status()
		return len(s.Backends) == n && s.Open == 1
	})
}

// settled makes one request, so that every backend's registration is through,
// and waits until the broker has no connection but the one that asks.
func (w *fixture) settled() {
	w.t.Helper()
	w.healthy()
	testutil.WaitFor(w.t, "no connection under way", func() bool { return w.status().Open == 1 })
}

// verdict is what a client may conclude about its request.
type verdict string

const (
	answered verdict = "answered"
	unknown  verdict = "unknown"  // must not be sent again
	notSent  verdict = "not sent" // may be sent again
)

// result is one request's fate as its client sees it.
type result struct {
	id      string
	verdict verdict
	route   client.Route
	err     error
}

// ownDeadline is a client's, which passes when the test says so.
type ownDeadline struct {
	context.Context
	passed chan struct{}
}

func (d ownDeadline) Done() <-chan struct{} { return d.passed }

func (d ownDeadline) Err() error {
	select {
	case <-d.passed:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// called is a request under way.
type called struct {
	done chan result
	sent chan struct{} // is closed when a request that does not go along with Hello is out
	late func()        // lets the client's own deadline pass
}

// call makes a request whose client waits as long as the test wants him to.
func (w *fixture) call() *called {
	w.t.Helper()
	d := ownDeadline{context.Background(), make(chan struct{})}
	c := &called{make(chan result, 1), make(chan struct{}), func() { close(d.passed) }}
	go func() { c.done <- w.requestBy(d, patience, func() { close(c.sent) }) }()
	return c
}

// routes counts by which way the requests of all tests reached a backend: a system that hands
// nothing over would serve them all the same.
var routes tally

type tally struct {
	mu sync.Mutex
	by map[client.Route]int
}

func (t *tally) count(r client.Route) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by == nil {
		t.by = make(map[client.Route]int)
	}
	t.by[r]++
}

// String is empty where nobody asked.
func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := 0
	for _, n := range t.by {
		all += n
	}
	if all == 0 {
		return ""
	}
	handed := t.by[client.HandedOver]
	return fmt.Sprintf("%d of %d requests that reached a backend were handed over, %.1f %%\n", handed, all, 100*float64(handed)/float64(all))
}

// request dials anew, sends one request, and returns what the client knows in
// the end. patience bounds the dial and the answer each.
func (w *fixture) request(patience time.Duration) result {
	w.t.Helper()
	return w.requestBy(context.Background(), patience, func() {})
}

func (w *fixture) requestBy(ctx context.Context, patience time.Duration, sent func()) result {
	w.t.Helper()
	res := result{id: fmt.Sprintf("request-%d", w.lastID.Add(1))}
	conn, err := w.dialFor(ctx, res.id, patience)
	if err != nil {
		res.verdict, res.err = notSent, err
		if errors.Is(err, client.ErrOutcomeUnknown) {
			res.verdict = unknown
		}
		return res
	}
	defer func() { _ = conn.Close() }()
	res.route = conn.Route()
	routes.count(res.route)
	if !w.early && w.dialled != nil {
		w.dialled()
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	release := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer release()
	if w.early {
		res.verdict, res.err = hear(conn, res.id)
		return res
	}
	res.verdict, res.err = ask(conn, res.id, sent)
	return res
}

// requestHalfClosed sends one request, along with Hello where d is knowing, and ends the
// client's direction behind it, before there is a verdict.
func (w *fixture) requestHalfClosed(d *client.Dialer) result {
	w.t.Helper()
	res := result{id: fmt.Sprintf("request-%d", w.lastID.Add(1))}
	conn, err := d.Dial(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, res.id+"\n"); err != nil {
		w.t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		w.t.Fatal(err)
	}
	res.verdict, res.err = hear(conn, res.id)
	res.route = conn.Route()
	routes.count(res.route)
	return res
}

// knowing returns a Dialer that has learned that the broker is usher: its connections
// ask at their first Write.
func (w *fixture) knowing() *client.Dialer {
	w.t.Helper()
	d := &client.Dialer{Options: w.options(patience)}
	w.judge(w.requestHalfClosed(d))
	conn, err := d.Dial(context.Background())
	if err != nil || conn.Route() != "" {
		w.t.Fatalf("it asked before the first Write: %v", err)
	}
	_ = conn.Close()
	return d
}

// dialFor dials for a request, which goes along with Hello where the fixture says
// so.
func (w *fixture) dialFor(ctx context.Context, id string, patience time.Duration) (*client.Conn, error) {
	if w.early {
		return client.DialWith(ctx, w.options(patience), []byte(id+"\n"))
	}
	return client.Dial(ctx, w.options(patience))
}

func (w *fixture) dial(patience time.Duration) (*client.Conn, error) {
	return client.Dial(context.Background(), w.options(patience))
}

func (w *fixture) options(patience time.Duration) client.Options {
	return client.Options{Service: service, Version: version, Broker: w.Socket(), Timeout: patience}
}

// ask sends one request on conn and reads its answer.
func ask(conn *client.Conn, id string, sent func()) (verdict, error) {
	if _, err := io.WriteString(conn, id+"\n"); err != nil {
		if errors.Is(err, client.ErrOutcomeUnknown) {
			return unknown, err
		}
		return notSent, err // nothing of it left: the peer was gone already
	}
	sent()
	return hear(conn, id)
}

// hear reads the answer.
func hear(conn *client.Conn, id string) (verdict, error) {
	line, err := bufio.NewReader(conn).ReadString('\n')
	switch {
	case err == nil && line == id+" done\n":
		return answered, nil
	case err == nil:
		return unknown, fmt.Errorf("answer %q", line)
	case errors.Is(err, client.ErrOutcomeUnknown):
		return unknown, err
	}
	return "", err
}

// executions counts what the backends ran.
func (w *fixture) executions() map[string]int {
	w.t.Helper()
	content, err := os.ReadFile(w.journal)
	if err != nil {
		w.t.Fatal(err)
	}
	ran := make(map[string]int)
	for line := range strings.Lines(string(content)) {
		ran[strings.TrimSuffix(line, "\n")]++
	}
	return ran
}

// judge holds results against what ran: nothing twice, what was answered once,
// what was not sent never.
func (w *fixture) judge(results ...result) {
	w.t.Helper()
	ran := w.executions()
	for _, r := range results {
		n := ran[r.id]
		switch {
		case r.verdict == "":
			w.t.Errorf("%s has no verdict: %v", r.id, r.err)
		case n > 1:
			w.t.Errorf("%s ran %d times (%s)", r.id, n, r.verdict)
		case r.verdict == answered && n != 1:
			w.t.Errorf("%s was answered and ran %d times", r.id, n)
		case r.verdict == notSent && n != 0:
			w.t.Errorf("%s was not sent and ran %d times", r.id, n)
		}
	}
}

// reconnected waits until the broker has sent more than n clients to a pipe.
func (w *fixture) reconnected(n int) {
	w.t.Helper()
	testutil.WaitFor(w.t, "client sent to the backend's pipe", func() bool {
		return w.status().Clients.Reconnected > n
	})
}

// outcomes returns how many handoffs have come to an end, in time or at their deadline.
func (w *fixture) outcomes() int {
	w.t.Helper()
	reply, err := adminclient.Ask(context.Background(), w.Socket(), &wire.AdminRequest{Verb: wire.AdminVerb_ADMIN_VERB_STATUS, Json: true})
	if err != nil {
		w.t.Fatal(err)
	}
	var status struct {
		Handoffs struct {
			Adopted, Unknown int
			NotTaken         int `json:"not_taken"`
		}
	}
	if err := json.Unmarshal([]byte(reply.Body), &status); err != nil {
		w.t.Fatalf("%v in %s", err, reply.Body)
	}
	return status.Handoffs.Adopted + status.Handoffs.NotTaken + status.Handoffs.Unknown
}

// over waits until more handoffs than before have come to an end.
func (w *fixture) over(before int) {
	w.t.Helper()
	testutil.WaitFor(w.t, "the handoff has come to an end", func() bool { return w.outcomes() > before })
}

// status is what the broker says about itself.
func (w *fixture) status() *world.Status {
	w.t.Helper()
	s, err := world.AskStatus(context.Background(), w.Socket())
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func rounds() int {
	if testing.Short() {
		return 3
	}
	return 30
}

package languages

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/testutil"
)

var clientPrograms = []clientProgram{goClient, pythonClient, cClient, nodeClient}

// TestTogether has every client ask every backend: Node's reconnects, the others' requests
// are handed over. The backends outlive their broker.
func TestTogether(t *testing.T) {
	testutil.Leaks(t)
	for _, program := range backendPrograms {
		t.Run(program.name, func(t *testing.T) {
			w := newFixture(t, program, patience)
			p := w.steady()
			reconnected := 0
			for _, early := range []bool{true, false} {
				for _, c := range clientPrograms {
					t.Run(fmt.Sprintf("%s, early data %t", c.name, early), func(t *testing.T) {
						w := w.in(t)
						if c.reconnects {
							reconnected++
						}
						w.healthy(c, early)
						if n := w.status().Clients.Reconnected; n != reconnected {
							t.Errorf("%d clients reconnected, want %d", n, reconnected)
						}
					})
				}
			}
			w.stopBroker()
			w.startBroker()
			if err := w.Registered(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			w.healthy(goClient, true)
			w.rests(p)
		})
	}
}

// TestOffersAtOnce: offers that lie in the channel together, as a thawed backend finds them,
// are told apart, each with its descriptors.
func TestOffersAtOnce(t *testing.T) {
	testutil.Leaks(t)
	for _, program := range backendPrograms {
		t.Run(program.name, func(t *testing.T) {
			w := newFixture(t, program, patience)
			p := w.start(fault{})
			if err := p.Freeze(t.Context()); err != nil {
				t.Fatal(err)
			}
			const clients = 8
			done := make(chan error, clients)
			for n := range clients {
				go func() { done <- askPatiently(w, fmt.Sprintf("at-once-%d", n)) }()
			}
			testutil.WaitFor(t, "all are offered", func() bool { return w.status().Open > clients })
			_ = p.Thaw()
			for range clients {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
			if s := w.status(); s.Clients.Reconnected != 0 || s.Handoffs.NotTaken != 0 {
				t.Errorf("%d reconnected, %d were not taken", s.Clients.Reconnected, s.Handoffs.NotTaken)
			}
		})
	}
}

// askPatiently makes a request that nothing but a busy machine delays.
func askPatiently(w *fixture, id string) error {
	conn, err := client.Dial(context.Background(), client.Options{Service: service, Version: version, Broker: w.Socket(), Timeout: time.Minute})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := fmt.Fprintln(conn, id); err != nil {
		return err
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != id+" done\n" {
		return fmt.Errorf("%q, %v", line, err)
	}
	return nil
}

// place is a step between a message's arrival and the first answer, with the verdict that
// is right for package client when a backend dies or freezes there while another lives.
// The clients of examples ask again where nothing was run, and so may be answered where
// package client is not.
type place struct {
	step   string
	early  bool
	killed verdict
	frozen verdict
}

// places: for the reasons see test/faults.
var places = []place{
	{"received", false, answered, answered},
	{"claimed", false, answered, notRun},
	{"acked", false, answered, notRun},
	{"asked", false, unknown, unknown},

	{"received", true, answered, answered},
	{"claimed", true, answered, unknown}, // proven unread
	{"read", true, unknown, unknown},
	{"acked", true, unknown, unknown},
	{"replied", true, unknown, unknown},
	{"asked", true, unknown, unknown},
}

// TestFaults kills and freezes backends at every place with a request on its way: it runs
// at most once, and its client knows what may be concluded. A client that reconnects meets
// the last place alone: the others are of a handoff.
func TestFaults(t *testing.T) {
	testutil.Leaks(t)
	for _, program := range backendPrograms {
		clients := []clientProgram{goClient, pythonClient, cClient, nodeClient}
		if testing.Short() {
			clients = clients[:1]
		}
		for _, c := range clients {
			t.Run(program.name+" backend, "+c.name+" client", func(t *testing.T) {
				t.Parallel()
				for s, acks := range map[signal]time.Duration{kill: patience, stop: ackDeadline} {
					w := newFixture(t, program, acks)
					steady := w.steady()
					var all []result
					for _, at := range places {
						if c.reconnects && (at.step != "asked" || !at.early) {
							continue
						}
						t.Run(fmt.Sprintf("%s, early data %t, %s", at.step, at.early, s.name), func(t *testing.T) {
							all = append(all, w.in(t).meet(at, s, c))
						})
					}
					w.rests(steady)
					w.judge(all...) // also what ran late
				}
			})
		}
	}
}

// meet makes a request that meets the fault.
func (w *fixture) meet(at place, s signal, c clientProgram) result {
	w.t.Helper()
	faulty := w.start(fault{at.step, s})
	defer faulty.Kill()
	want := at.killed
	if s == stop {
		want = at.frozen
	}
	if s == kill && at.step == "claimed" && at.early && (!w.program.page || testutil.Portable) {
		want = unknown // that no message came proves nothing
	}
	allowed := []verdict{want}
	if want == notRun && c.name != goClient.name {
		allowed = append(allowed, answered)
	}
	if s == stop && want != answered {
		w.patience = inVain
	}
	got := w.ask(c, at.early)
	w.patience = patience
	if s == stop {
		if err := faulty.AwaitFrozen(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
		_ = faulty.Thaw()
		w.rests(faulty) // whatever it held, it has given up
		w.judge(got)
		faulty.Kill()
	} else {
		ctx, cancel := context.WithTimeout(w.t.Context(), patience)
		defer cancel()
		_ = faulty.Wait(ctx)
		if ctx.Err() != nil {
			w.t.Fatal("it was to kill itself")
		}
	}
	w.judge(got)
	if !slices.Contains(allowed, got.verdict) {
		w.t.Errorf("%q %s, want %s", got.verdict, got.detail, want)
	}
	testutil.WaitFor(w.t, "the faulty one is known to be gone", func() bool { return len(w.status().Backends) == 1 })
	w.healthy(goClient, at.early)
	return got
}

// TestOnlyBackendFrozen has nobody else to serve: the broker takes the connection back, and
// names the frozen backend's own socket. The request runs once, after the thaw.
func TestOnlyBackendFrozen(t *testing.T) {
	testutil.Leaks(t)
	for _, program := range backendPrograms {
		t.Run(program.name, func(t *testing.T) {
			compiled("client", patience)(t) // or the test is skipped
			w := newFixture(t, program, ackDeadline)
			w.steady().Kill()
			for _, c := range []clientProgram{goClient, cClient} {
				for _, early := range []bool{true, false} {
					testutil.WaitFor(t, "nobody serves", func() bool { return len(w.status().Backends) == 0 })
					frozen := w.start(fault{"received", stop})
					before := w.status().Clients.Reconnected
					done := make(chan result, 1)
					go func() { done <- w.ask(c, early) }()
					if err := frozen.AwaitFrozen(t.Context()); err != nil {
						t.Fatal(err)
					}
					testutil.WaitFor(t, "its client is sent to its socket", func() bool { return w.status().Clients.Reconnected > before })
					_ = frozen.Thaw()
					got := <-done
					w.rests(frozen)
					w.judge(got)
					if got.verdict != answered {
						t.Errorf("%s, early data %t: %q %s", c.name, early, got.verdict, got.detail)
					}
					frozen.Kill()
				}
			}
		})
	}
}

// TestTableFull gives the backend that is asked first no descriptor to receive a connection
// with: it says so, and another serves, long before any deadline.
func TestTableFull(t *testing.T) {
	testutil.Leaks(t)
	for _, program := range backendPrograms {
		t.Run(program.name, func(t *testing.T) {
			w := newFixture(t, program, patience)
			w.steady()
			for n, early := range []bool{false, true} {
				full := w.start(fault{})
				w.healthy(goClient, early) // by the newest: so it has its channel
				w.rests(full)
				if err := unix.Prlimit(full.PID(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: 1 << 10}, nil); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				w.healthy(goClient, early)
				if took := time.Since(began); took > patience/2 {
					t.Errorf("the answer took %v", took)
				}
				if retried := w.status().Handoffs.Retried; retried != n+1 {
					t.Errorf("%d retries, want %d", retried, n+1)
				}
				full.Kill()
				testutil.WaitFor(t, "it is known to be gone", func() bool { return len(w.status().Backends) == 1 })
			}
		})
	}
}

//go:build linux

package faults

import (
	"bufio"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// brokerPoints are the places in the broker around one handoff, with what a
// client may see when the broker dies there.
var brokerPoints = []struct {
	point failpoint.Point
	// frozen says that the backend is frozen before it adopts, so that the broker
	// gets to take the connection back.
	frozen         bool
	verdict, early verdict // early: of a request that went along with Hello
}{
	// Nothing was sent to any backend, and nobody is left to answer.
	{failpoint.BrokerIssued, false, notSent, unknown},
	// The message is in the backend's queue: it claims, and serves.
	{failpoint.BrokerSent, false, answered, answered},
	// The claim died with the broker: nobody owns the connection any more, and the
	// frozen backend keeps it open.
	{failpoint.BrokerRevoked, true, notSent, unknown},
	{failpoint.BrokerAcked, false, answered, answered},
}

// TestBrokerKilled kills the broker at every step of a handoff, and starts
// another one, with which the backend registers by itself.
func TestBrokerKilled(t *testing.T) {
	testutil.Leaks(t)
	for _, c := range brokerPoints {
		for early, want := range map[bool]verdict{false: c.verdict, true: c.early} {
			t.Run(fmt.Sprintf("%s, early data %t", c.point, early), func(t *testing.T) {
				t.Parallel()
				w := newFixture(t)
				w.early = early
				w.startBroker(role{})
				b := w.start("backend", role{})
				w.settled()
				rests := b.atRest()
				for range rounds() {
					w.broker.quit()
					r := role{Point: c.point, Signal: syscall.SIGKILL}
					if c.frozen {
						r.AckDeadline = ackDeadline
					}
					w.startBroker(r)
					w.registered(1)
					if c.frozen {
						b.freeze()
					}
					call := w.call()
					w.broker.died()
					if want != answered {
						call.late()
					}
					got := <-call.done
					b.thaw()
					w.judge(got)
					if got.verdict != want {
						t.Errorf("%s %v, want %s", got.verdict, got.err, want)
					}
					w.startBroker(role{})
					w.registered(1)
					w.healthy()
				}
				rests()
				b.quit()
				w.broker.quit()
			})
		}
	}
}

// TestConnectionsOutliveTheBroker: what was handed over goes on without the
// broker, however it ends, and without the next one.
func TestConnectionsOutliveTheBroker(t *testing.T) {
	testutil.Leaks(t)
	w := newFixture(t)
	w.startBroker(role{})
	b := w.start("backend", role{})
	w.settled()
	rests := b.atRest()
	for _, end := range []func(*process){(*process).kill, (*process).quit} {
		conn, err := w.dial(patience)
		if err != nil {
			t.Fatal(err)
		}
		if conn.Route() != client.HandedOver {
			t.Fatalf("route %s", conn.Route())
		}
		line := bufio.NewReader(conn)
		ask := func(id string) {
			t.Helper()
			if _, err := fmt.Fprintln(conn, id); err != nil {
				t.Fatal(err)
			}
			if got, err := line.ReadString('\n'); got != id+" done\n" {
				t.Fatalf("%q %v", got, err)
			}
		}
		ask("before the end")
		end(w.broker)
		ask("without a broker")
		w.startBroker(role{})
		w.registered(1)
		ask("with the next broker")
		w.healthy()
		_ = conn.Close()
	}
	rests()
	b.quit()
	w.broker.quit()
}

// TestDrainUnderLoad tells a broker to stop while clients keep coming: each of
// them is served or knows that nothing was sent. A request that went along with
// Hello may also end as unknown: a client whose connection was in the kernel's
// queue when the socket closed can't tell.
func TestDrainUnderLoad(t *testing.T) {
	testutil.Leaks(t)
	for _, early := range []bool{false, true} {
		t.Run(fmt.Sprintf("early data %t", early), func(t *testing.T) {
			w := newFixture(t)
			w.early = early
			w.startBroker(role{})
			b := w.start("backend", role{})
			w.settled()
			rests := b.atRest()
			for range min(rounds(), 5) {
				results := w.underLoadFor(5*time.Second, w.broker.quit) // in vain, behind the end
				w.judge(results...)
				for _, r := range results {
					if r.verdict == unknown && !early {
						t.Errorf("%s: unknown: %v", r.id, r.err)
					}
				}
				w.startBroker(role{})
				w.registered(1)
			}
			rests()
			b.quit()
			w.broker.quit()
		})
	}
}

// TestBrokerReplacedUnderLoad kills a broker and starts the next one while clients
// keep coming. Requests that were in flight at the broker may end as unknown where they went
// along with Hello: two of a client at most, for one that hears of the end at once finds the
// dead broker's queue still open. All others are answered, once, and a connection from before
// lives on. None is refused for want of the broker, or of the backend, which takes a moment
// to register again: clients wait for both.
func TestBrokerReplacedUnderLoad(t *testing.T) {
	testutil.Leaks(t)
	for _, early := range []bool{false, true} {
		t.Run(fmt.Sprintf("early data %t", early), func(t *testing.T) {
			w := newFixture(t)
			w.early = early
			w.startBroker(role{})
			b := w.start("backend", role{})
			w.settled()
			rests := b.atRest()
			old, err := w.dial(patience)
			if err != nil {
				t.Fatal(err)
			}
			line := bufio.NewReader(old)
			verdicts := make(map[verdict]int)
			var back []time.Duration
			for n := range rounds() {
				results := w.underLoad(func() {
					began := time.Now()
					w.broker.kill()
					if n == 0 {
						b.freeze() // it can't register before a client has come
					}
					w.startBroker(role{BackendWait: patience})
					if n == 0 {
						waits := make(chan result)
						go func() { waits <- w.request(patience) }()
						testutil.WaitFor(t, "a client that waits", func() bool { return w.status().Clients.Waited > 0 })
						b.thaw()
						w.judge(<-waits)
					}
					for first := (result{}); first.route != client.HandedOver; {
						first = w.request(patience)
						w.judge(first)
					}
					back = append(back, time.Since(began))
					w.registered(1)
				})
				w.judge(results...)
				lost := 0
				for _, r := range results {
					verdicts[r.verdict]++
					switch {
					case r.verdict == unknown:
						lost++
					case r.verdict == notSent && back[n] < time.Second: // a client waits for so long
						t.Errorf("kill %d: %s: %v", n, r.id, r.err)
					}
				}
				if lost > 2*loadClients || lost > 0 && !early {
					t.Errorf("kill %d: %d requests ended as unknown", n, lost)
				}
				clients := w.status().Clients
				delete(clients.Refused, "ERROR_RATE_LIMITED") // clients of one process may be too fast, and ask again
				if len(clients.Refused) > 0 {
					t.Errorf("the next broker refused: %v", clients.Refused)
				}
				id := fmt.Sprintf("old-%d", n)
				if _, err := fmt.Fprintln(old, id); err != nil {
					t.Fatal(err)
				}
				if got, err := line.ReadString('\n'); got != id+" done\n" {
					t.Fatalf("%q, %v", got, err)
				}
			}
			slices.Sort(back)
			t.Logf("%d kills: %v; from the kill until the first handoff through the next broker: median %v, at most %v",
				len(back), verdicts, back[len(back)/2].Round(time.Millisecond), back[len(back)-1].Round(time.Millisecond))
			_ = old.Close()
			rests()
			b.quit()
			w.broker.quit()
		})
	}
}

const loadClients = 8

// underLoad has clients ask from before f is called until it has returned.
func (w *fixture) underLoad(f func()) (results []result) {
	w.t.Helper()
	return w.underLoadFor(patience, f)
}

// underLoadFor is underLoad with clients of so much patience.
func (w *fixture) underLoadFor(patience time.Duration, f func()) (results []result) {
	w.t.Helper()
	var mu sync.Mutex
	var clients sync.WaitGroup
	stop := make(chan struct{})
	for range loadClients {
		clients.Go(func() {
			for {
				got := w.request(patience)
				mu.Lock()
				results = append(results, got)
				mu.Unlock()
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	testutil.WaitFor(w.t, "load", func() bool { mu.Lock(); defer mu.Unlock(); return len(results) > 100 })
	f()
	close(stop)
	clients.Wait()
	return results
}

// TestClientGone lets clients leave at every stage of a handoff; neither broker
// nor backend keeps anything of them.
func TestClientGone(t *testing.T) {
	testutil.Leaks(t)
	for _, c := range backendFaults {
		t.Run(c.name(), func(t *testing.T) {
			t.Parallel()
			w := newFixture(t)
			w.early = c.client != behindReady
			w.startBroker(role{})
			steady := w.start("backend", role{})
			w.settled()
			brokerRests := w.broker.atRest()
			for range min(rounds(), 10) {
				b := w.start("backend", c.role(syscall.SIGSTOP))
				rests := b.restsLike(steady)
				call := w.call()
				b.frozen()
				call.late() // long before the broker's deadline
				got := <-call.done
				b.thaw()
				rests()
				w.judge(got)
				w.healthy()
				b.quit()
			}
			brokerRests()
			steady.quit()
			w.broker.quit()
		})
	}
}

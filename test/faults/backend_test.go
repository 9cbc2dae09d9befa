//go:build linux

package faults

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// fault is a place between the broker's sendmsg and the backend's first answer, with
// the one verdict that is right for a client when the backend dies or freezes there
// while another instance lives.
type fault struct {
	point  failpoint.Point
	client kind
	killed verdict // after SIGKILL
	frozen verdict // after SIGSTOP, past the broker's deadline and the client's
}

// kind is how a client sends its request, and how the backend answers it.
type kind string

const (
	behindReady kind = "after ready"        // Dial, and then the request; the backend answers behind Accept
	early       kind = "early data"         // the request goes along with Hello
	earlyInline kind = "early data, inline" // and is answered on the listener's own goroutine
)

// backendFaults: which verdict is right, and why.
//
//	point     client       killed                              frozen
//	received  all          answered: the claim is won back, another instance serves; a
//	checked                frozen one finds it gone when it wakes
//	claimed   after ready  answered: Hello alone has been      not sent: nobody writes the
//	                       sent, Dial asks again at the end    reply, Dial waits in vain
//	claimed   early        answered: dead, no ACK, all bytes   unknown: it may go on and
//	                       unread: proven, sent on             run it
//	read      early        unknown: a byte was read            unknown
//	acked     after ready  answered: as claimed                not sent: as claimed
//	acked     early        unknown: an ACK ends all proof      unknown
//	replied   after ready  not sent: the end is there before   unknown: sent into a
//	                       the request                         connection that stands
//	replied   inline       answered: reply and answer are one write
//	the application has read
//	          all          unknown: it ran, or will
var backendFaults = []fault{
	{failpoint.BackendReceived, behindReady, answered, answered},
	{failpoint.BackendChecked, behindReady, answered, answered},
	{failpoint.BackendClaimed, behindReady, answered, notSent},
	{failpoint.BackendAcked, behindReady, answered, notSent},
	{failpoint.BackendReplied, behindReady, notSent, unknown},
	{pointRead, behindReady, unknown, unknown},

	{failpoint.BackendReceived, early, answered, answered},
	{failpoint.BackendChecked, early, answered, answered},
	{failpoint.BackendClaimed, early, answered, unknown},
	{failpoint.BackendRead, early, unknown, unknown},
	{failpoint.BackendAcked, early, unknown, unknown},
	{pointRead, early, unknown, unknown},

	{failpoint.BackendClaimed, earlyInline, answered, unknown},
	{failpoint.BackendRead, earlyInline, unknown, unknown},
	{failpoint.BackendAcked, earlyInline, unknown, unknown},
	{failpoint.BackendReplied, earlyInline, answered, answered},
}

func (f fault) name() string { return fmt.Sprintf("%s, %s", f.point, f.client) }

func (f fault) role(s syscall.Signal) role {
	return role{Point: f.point, Signal: s, Inline: f.client == earlyInline}
}

// dialled says that the client has dialled, and sends its request behind that.
func (f fault) dialled() bool {
	return f.client == behindReady && (f.point == failpoint.BackendReplied || f.point == pointRead)
}

// proven says that a request is known to be unread when the backend dies. Where ACKs are
// messages, nothing is: a full channel takes none.
func (f fault) proven() bool {
	return f.point == failpoint.BackendClaimed && f.client != behindReady && !testutil.Portable
}

// whenKilled is the verdict at the backend's death.
func (f fault) whenKilled() verdict {
	if f.point == failpoint.BackendClaimed && f.client != behindReady && !f.proven() {
		return unknown
	}
	return f.killed
}

// TestBackendKilled kills a backend at every step with a connection on its way.
func TestBackendKilled(t *testing.T) {
	testutil.Leaks(t)
	for _, f := range backendFaults {
		t.Run(f.name(), func(t *testing.T) {
			t.Parallel()
			w, end := steadyFixture(t, f.client != behindReady, patience)
			for range rounds() {
				faulty := w.start("backend", f.role(syscall.SIGKILL))
				gone := sync.OnceFunc(func() { faulty.died(); w.registered(1) })
				w.dialled = gone // so that the request meets a connection that has ended
				if f.point == pointRead {
					w.dialled = nil // it is the request that kills
				}
				got := w.request(patience)
				gone()
				w.dialled = nil
				w.judge(got)
				if want := f.whenKilled(); got.verdict != want {
					t.Errorf("%s %v, want %s", got.verdict, got.err, want)
				}
				w.healthy()
			}
			proven := 0
			if f.proven() {
				proven = rounds()
			}
			if got := w.status().Handoffs.ProvenUnread; got != proven {
				t.Errorf("%d requests proven unread, want %d", got, proven)
			}
			end()
		})
	}
}

// TestBackendFrozen freezes a backend at every step, lets the broker's and the
// client's deadlines pass, and thaws it.
func TestBackendFrozen(t *testing.T) {
	testutil.Leaks(t)
	for _, f := range backendFaults {
		t.Run(f.name(), func(t *testing.T) {
			t.Parallel()
			w, end := steadyFixture(t, f.client != behindReady, ackDeadline)
			for range rounds() {
				faulty := w.start("backend", f.role(syscall.SIGSTOP))
				rests := faulty.restsLike(w.steady)
				before := w.outcomes()
				call := w.call()
				faulty.frozen()
				w.over(before)
				if f.dialled() {
					<-call.sent
				}
				if f.frozen != answered {
					call.late()
				} else {
					faulty.thaw()
				}
				got := <-call.done
				faulty.thaw()
				rests() // whatever it held, it has given up
				w.judge(got)
				if got.verdict != f.frozen {
					t.Errorf("%s %v, want %s", got.verdict, got.err, f.frozen)
				}
				w.healthy()
				faulty.quit()
			}
			end()
		})
	}
}

// TestBackendStoppedUnread stops a backend from outside, so that the connection
// waits unread in its channel, and then kills it, or lets it wake up after the
// deadline.
func TestBackendStoppedUnread(t *testing.T) {
	testutil.Leaks(t)
	kill := (*process).kill
	thaw := (*process).thaw
	for _, c := range []struct {
		name   string
		end    func(*process)
		thawed bool
		early  bool
	}{
		{"killed", kill, false, false}, {"killed, early data", kill, false, true},
		{"thawed", thaw, true, false}, {"thawed, early data", thaw, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			deadline := patience
			if c.thawed {
				deadline = ackDeadline
			}
			w, end := steadyFixture(t, c.early, deadline)
			for range rounds() {
				stopped := w.start("backend", role{})
				w.registered(2)
				stopped.freeze()
				done := make(chan result)
				before := w.outcomes()
				go func() { done <- w.request(patience) }()
				testutil.WaitFor(t, "its message is in the channel", func() bool { return w.status().Open > 1 })
				if c.thawed {
					w.over(before)
				}
				c.end(stopped)
				got := <-done
				w.judge(got)
				if got.verdict != answered {
					t.Errorf("%s %v, want answered", got.verdict, got.err)
				}
				if c.thawed {
					stopped.quit()
				}
				w.registered(1)
				w.healthy()
			}
			end()
		})
	}
}

// TestOnlyBackendFrozen has nobody to retry on: the client is sent to the frozen
// backend's own pipe, and its request runs once, after the thaw.
func TestOnlyBackendFrozen(t *testing.T) {
	testutil.Leaks(t)
	for _, early := range []bool{false, true} {
		t.Run(fmt.Sprintf("early data %t", early), func(t *testing.T) {
			t.Parallel()
			w := newFixture(t)
			w.early, w.ackDeadline = early, ackDeadline
			w.startBroker(role{})
			first := w.start("backend", role{})
			w.settled()
			first.quit()
			rests := w.broker.atRest()
			for range rounds() {
				faulty := w.start("backend", role{Point: failpoint.BackendChecked, Signal: syscall.SIGSTOP})
				before := w.status().Clients.Reconnected
				done := make(chan result)
				go func() { done <- w.request(patience) }()
				faulty.frozen()
				w.reconnected(before) // the broker has taken it back and named the pipe
				faulty.thaw()
				got := <-done
				w.judge(got)
				if got.verdict != answered || got.route != "reconnected" {
					t.Errorf("%s by %s %v", got.verdict, got.route, got.err)
				}
				w.healthy()
				faulty.quit()
			}
			rests()
			w.broker.quit()
		})
	}
}

// TestBackendTableFull gives the backend that is asked first no descriptor to
// receive a connection with: it says so, and another one serves, long before any
// deadline.
func TestBackendTableFull(t *testing.T) {
	testutil.Leaks(t)
	for _, early := range []bool{false, true} {
		t.Run(fmt.Sprintf("early data %t", early), func(t *testing.T) {
			t.Parallel()
			w, end := steadyFixture(t, early, patience)
			for n := range rounds() {
				full := w.start("backend", role{})
				w.registered(2)
				full.fill()
				began := time.Now()
				got := w.request(2 * patience)
				took := time.Since(began)
				w.judge(got)
				if got.verdict != answered || got.route != client.HandedOver {
					t.Errorf("%s by %s %v", got.verdict, got.route, got.err)
				}
				if s := w.status(); s.Handoffs.Retried != n+1 {
					t.Errorf("%d retries, want %d", s.Handoffs.Retried, n+1)
				}
				if took > patience/2 {
					t.Errorf("the answer took %v", took)
				}
				full.kill()
				w.registered(1)
				w.healthy()
			}
			end()
		})
	}
}

// TestHalfClosed closes the client's direction behind a request that goes along
// with Hello: it is answered all the same, also by the instance that is asked when
// the first one dies, and by one that the client reaches by itself.
func TestHalfClosed(t *testing.T) {
	testutil.Leaks(t)
	for _, point := range []failpoint.Point{"", failpoint.BackendReceived, failpoint.BackendClaimed} {
		t.Run("killed at "+string(point), func(t *testing.T) {
			t.Parallel()
			w, end := steadyFixture(t, true, patience)
			d := w.knowing()
			want := answered
			if point == failpoint.BackendClaimed && testutil.Portable { // nothing proves that it was not read
				want = unknown
			}
			for range rounds() {
				var faulty *process
				if point != "" {
					faulty = w.start("backend", role{Point: point, Signal: syscall.SIGKILL})
				}
				got := w.requestHalfClosed(d)
				if faulty != nil {
					faulty.died()
				}
				w.judge(got)
				if got.verdict != want {
					t.Errorf("%s by %s %v", got.verdict, got.route, got.err)
				}
				w.healthy()
			}
			end()
		})
	}
}

// TestChildHoldsNoDescriptor: a backend's own child inherits nothing, so the
// client sees the end as soon as the backend dies, not when the child does.
func TestChildHoldsNoDescriptor(t *testing.T) {
	testutil.Leaks(t)
	w := newFixture(t)
	w.startBroker(role{})
	b := w.start("backend", role{Child: true})
	conn, err := w.dial(patience)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if conn.Route() != "handed_over" {
		t.Fatalf("route %s", conn.Route())
	}
	var child int
	if _, err := fmt.Fprintln(conn, "start a child"); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fscanln(conn, &child); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(child, syscall.SIGKILL) }()
	b.kill()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d %v", n, err)
	}
	if err := syscall.Kill(child, 0); err != nil {
		t.Errorf("the child has ended before: %v", err)
	}
	w.broker.quit()
}

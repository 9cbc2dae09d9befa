//go:build linux

package faults

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// fault is a place between the broker's sendmsg and the backend's first answer,
// with what a client must see when the backend dies or freezes there while another
// instance lives.
type fault struct {
	point failpoint.Point
	// killed are the verdicts after SIGKILL, frozen those after SIGSTOP.
	killed, frozen []verdict
	early          bool // the request goes along with Hello
}

func (f fault) name() string {
	if f.early {
		return string(f.point) + ", early data"
	}
	return string(f.point)
}

// backendPoints are the places for a request that follows the ready event: before
// the claim, and after it as long as no reply is out, nothing has been sent and
// Dial asks again.
var backendPoints = []fault{
	{failpoint.BackendReceived, []verdict{answered}, []verdict{answered}, false},
	{failpoint.BackendChecked, []verdict{answered}, []verdict{answered}, false},
	{failpoint.BackendClaimed, []verdict{answered}, []verdict{notSent}, false},
	// The connection stands, and ends before or after the request is in it.
	{failpoint.BackendReplied, []verdict{notSent, unknown}, []verdict{unknown}, false},
	// The application may be faster than the ACK.
	{failpoint.BackendAcked, []verdict{notSent, unknown, answered}, []verdict{unknown, answered}, false},
	{pointRead, []verdict{unknown}, []verdict{unknown}, false},
}

// earlyPoints are the same with a request that goes along with Hello.
var earlyPoints = []fault{
	{failpoint.BackendReceived, []verdict{answered}, []verdict{answered}, true},
	{failpoint.BackendChecked, []verdict{answered}, []verdict{answered}, true},
	// Claimed and unread: the broker proves it of a dead backend, and sends the
	// client on. Of a frozen one nothing can be proven.
	{failpoint.BackendClaimed, []verdict{answered}, []verdict{unknown}, true},
	{failpoint.BackendAcked, []verdict{unknown, answered}, []verdict{unknown, answered}, true},
	{pointRead, []verdict{unknown}, []verdict{unknown}, true},
}

// patience is a client's own deadline: longer than the broker's for the
// acknowledgement, so that a connection won back is answered in time.
const patience = 3 * ackDeadline

// TestBackendKilled kills a backend at every step with a connection on its way.
func TestBackendKilled(t *testing.T) {
	testutil.Leaks(t)
	for _, c := range slices.Concat(backendPoints, earlyPoints) {
		t.Run(c.name(), func(t *testing.T) {
			t.Parallel()
			w, end := steadyWorld(t, c.early)
			for range rounds() {
				faulty := w.start("backend", role{Point: c.point, Signal: syscall.SIGKILL})
				got := w.request(10 * time.Second)
				faulty.died()
				w.judge(got)
				if !slices.Contains(c.killed, got.verdict) {
					t.Errorf("%s %v, want %s", got.verdict, got.err, c.killed)
				}
				w.healthy()
			}
			proven := 0
			if c.early && c.point == failpoint.BackendClaimed {
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
	for _, c := range slices.Concat(backendPoints, earlyPoints) {
		t.Run(c.name(), func(t *testing.T) {
			t.Parallel()
			w, end := steadyWorld(t, c.early)
			for range rounds() {
				faulty := w.start("backend", role{Point: c.point, Signal: syscall.SIGSTOP})
				rests := faulty.atRest()
				got := w.request(patience)
				faulty.frozen()
				faulty.signal(syscall.SIGCONT)
				rests() // whatever it held, it has given up
				w.judge(got)
				if !slices.Contains(c.frozen, got.verdict) {
					t.Errorf("%s %v, want %s", got.verdict, got.err, c.frozen)
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
	thaw := func(p *process) { p.signal(syscall.SIGCONT) }
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
			w, end := steadyWorld(t, c.early)
			for range rounds() {
				stopped := w.start("backend", role{})
				w.registered(2)
				stopped.signal(syscall.SIGSTOP)
				stopped.frozen()
				done := make(chan result)
				go func() { done <- w.request(10 * time.Second) }()
				testutil.WaitFor(t, "its message is in the channel", func() bool { return w.status().Open > 1 })
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
			w := newWorld(t)
			w.early = early
			w.startBroker(role{})
			first := w.start("backend", role{})
			w.settled()
			first.quit()
			rests := w.broker.atRest()
			for n := range rounds() {
				faulty := w.start("backend", role{Point: failpoint.BackendChecked, Signal: syscall.SIGSTOP})
				done := make(chan result)
				go func() { done <- w.request(10 * time.Second) }()
				faulty.frozen()
				w.reconnected(n) // the broker has taken it back and named the pipe
				faulty.signal(syscall.SIGCONT)
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
			w, end := steadyWorld(t, early)
			for n := range rounds() {
				full := w.start("backend", role{})
				w.registered(2)
				full.fill()
				began := time.Now()
				got := w.request(10 * time.Second)
				took := time.Since(began)
				w.judge(got)
				if got.verdict != answered || got.route != client.HandedOver {
					t.Errorf("%s by %s %v", got.verdict, got.route, got.err)
				}
				if s := w.status(); s.Handoffs.Retried != n+1 {
					t.Errorf("%d retries, want %d", s.Handoffs.Retried, n+1)
				}
				if took > ackDeadline {
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
			w, end := steadyWorld(t, true)
			for range rounds() {
				var faulty *process
				if point != "" {
					faulty = w.start("backend", role{Point: point, Signal: syscall.SIGKILL})
				}
				got := w.requestHalfClosed()
				if faulty != nil {
					faulty.died()
				}
				w.judge(got)
				if got.verdict != answered {
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
	w := newWorld(t)
	w.startBroker(role{})
	b := w.start("backend", role{Child: true})
	conn, err := w.dial(10 * time.Second)
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
	begin := time.Now()
	_ = conn.SetReadDeadline(begin.Add(5 * time.Second))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Fatalf("read %d %v", n, err)
	}
	if took := time.Since(begin); took > 100*time.Millisecond {
		t.Errorf("the end came after %v", took)
	}
	w.broker.quit()
}

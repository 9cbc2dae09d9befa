//go:build linux

package faults

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
	"github.com/seed-7265657e/usher/internal/world"
)

const (
	// crowdVariable is for how long TestInetdCrowd runs, as "30s".
	crowdVariable = "USHER_TEST_CROWD"

	crowdMost = 8              // processes of a service
	crowdSize = 10 * crowdMost // clients of each kind

	// crowdPatience is for one connection: far longer than any has to wait.
	crowdPatience = time.Minute

	// What the broker may have more than before: the heap at rest, and at any time the
	// resident set, for which the collector lets the heap grow.
	crowdHeap, crowdResident = 1 << 20, 32 << 20
)

func crowdTime(t *testing.T) time.Duration {
	t.Helper()
	text, set := os.LookupEnv(crowdVariable)
	if !set {
		if testing.Short() {
			return time.Second
		}
		return 3 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		t.Fatalf("%s is %q: want a time", crowdVariable, text)
	}
	return d
}

// TestInetdCrowd has connections served in mode inetd as fast as the machine takes them. Of
// one service the processes end at once, and ten times as many clients as it may have
// processes come again and again, with Hello and without. Of the other all processes are
// kept busy, and ten times as many clients wait for one: each is told how many there may be,
// and when to come again, and is there again at once. In the end there is nothing left.
//
// The figures of half a minute are in docs/programs.md, with the command.
func TestInetdCrowd(t *testing.T) {
	testutil.Leaks(t)
	c := &crowd{newFixture(t), new(figures)}
	c.define("quick", fmt.Sprintf("listen = %q\n", c.plain()))
	c.define("busy", "")
	c.startBroker(role{})
	testutil.WaitFor(t, "the broker listens for plain clients", func() bool { _, err := os.Stat(c.plain()); return err == nil })

	c.run(0) // once each: what is made once is there
	testutil.WaitFor(t, "no child is left", func() bool { return len(c.children()) == 0 })
	rests, heap := c.broker.atRest(), c.heap()
	c.figures = new(figures)
	f, span, resident := c.figures, crowdTime(t), c.resident()
	ended, began := make(chan struct{}), time.Now()
	go func() { defer close(ended); c.run(span) }()
	c.watch(ended)
	took := time.Since(began)
	testutil.WaitFor(t, "no child is left, no zombie either", func() bool { return len(c.children()) == 0 })
	rests()
	var after int
	if !testutil.Settles(func() bool { after = c.heap(); return after <= heap+crowdHeap }) { // what a pool keeps goes with the second collection
		t.Errorf("the broker's heap at rest: %d KiB, and %d KiB before", after>>10, heap>>10)
	}
	if f.peak > resident+crowdResident {
		t.Errorf("the broker's resident set was %d KiB, and %d KiB before", f.peak>>10, resident>>10)
	}
	if f.served.Load() == 0 || f.refused.Load() < crowdSize {
		t.Errorf("%d served, %d refused", f.served.Load(), f.refused.Load())
	}
	t.Logf("%.1f s: %d connections served, %.0f a second; %d refused with the reason after their wait, %d plain ones closed; "+
		"broker: resident set %.1f MiB before, at most %.1f MiB; heap at rest %.2f MiB before, %.2f MiB after; descriptors %d before and after, at most %d; "+
		"children at most %d at once, %d of them not reaped yet, none after",
		took.Seconds(), f.served.Load(), float64(f.served.Load())/took.Seconds(), f.refused.Load(), f.closed.Load(),
		mib(resident), mib(f.peak), mib(int64(heap)), mib(int64(after)), c.broker.fds(), f.descriptors, f.children, f.zombies)
	c.broker.quit()
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// crowd is a broker with two services, and what became of their clients.
type crowd struct {
	*fixture
	*figures
}

type figures struct {
	served, refused, closed        atomic.Int64
	peak                           int64 // the resident set, bytes
	descriptors, children, zombies int   // the most at once
}

func (c *crowd) plain() string { return c.Path("quick.sock") }

func (c *crowd) define(name, more string) {
	c.t.Helper()
	text := fmt.Sprintf("binary_path = \"/bin/cat\"\n[start]\nmode = \"inetd\"\nmax_instances = %d\n%s", crowdMost, more)
	if err := os.WriteFile(c.Definitions()+"/"+name+".toml", []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// run keeps the processes of one service busy, and has the clients come for so long; each
// once at least.
func (c *crowd) run(span time.Duration) {
	for range crowdMost {
		conn, err := c.begin("busy")
		if err != nil {
			c.t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
	}
	until := time.Now().Add(span)
	var all sync.WaitGroup
	for i := range crowdSize {
		for _, come := range []func() error{c.waitInVain, []func() error{c.callPlain, c.call}[i%2]} {
			all.Go(func() {
				for again := true; again; again = time.Now().Before(until) {
					if err := come(); err != nil {
						c.t.Error(err)
						return
					}
				}
			})
		}
	}
	all.Wait()
}

// begin is a connection whose process is there.
func (c *crowd) begin(name string) (*client.Conn, error) {
	conn, err := client.DialWith(context.Background(), client.Options{Service: name, Version: version, Broker: c.Socket(), Timeout: crowdPatience}, []byte("here\n"))
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(crowdPatience))
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "here\n" {
		_ = conn.Close()
		return nil, fmt.Errorf("%s answers %q, %v", name, line, err)
	}
	return conn, nil
}

// call is one connection from its beginning to its end.
func (c *crowd) call() error {
	conn, err := c.begin("quick")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	if rest, err := io.ReadAll(conn); len(rest) > 0 || err != nil {
		return fmt.Errorf("behind the answer: %q, %v", rest, err)
	}
	c.served.Add(1)
	return nil
}

// callPlain is call without Hello. A refusal is the end of the connection.
func (c *crowd) callPlain() error {
	conn, err := net.Dial("unix", c.plain())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(crowdPatience))
	_, writeErr := io.WriteString(conn, "here\n")
	if writeErr == nil {
		writeErr = conn.(*net.UnixConn).CloseWrite()
	}
	switch got, err := io.ReadAll(conn); {
	case string(got) == "here\n" && err == nil && writeErr == nil:
		c.served.Add(1)
	case len(got) == 0: // unread, or before it was written
		c.closed.Add(1)
	default:
		return fmt.Errorf("a plain client got %q, %v, %v", got, writeErr, err)
	}
	return nil
}

// waitInVain says Hello where no process becomes free.
func (c *crowd) waitInVain() error {
	conn, err := net.Dial("unix", c.Socket())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(crowdPatience))
	r := hello.Request{Service: "busy", Version: version, Capabilities: frame.CapUsher | frame.CapHandlePassing}
	if _, err := frame.Write(conn, frame.Request(frame.Control, 1, wire.Marshal(r.Hello()))); err != nil {
		return err
	}
	f, _, err := frame.Read(conn, frame.MaxBody)
	if err != nil {
		return err
	}
	reply := new(wire.HelloReply)
	if err := frame.Unmarshal(f.Payload, reply); err != nil {
		return err
	}
	if no := reply.Refused; no == nil || no.Code != wire.ErrorCode_ERROR_RATE_LIMITED || no.RetryAfterMs == 0 ||
		no.Reason != fmt.Sprintf("all %d processes that the service may have are busy", crowdMost) {
		return fmt.Errorf("who waits in vain is told %+v", no)
	}
	c.refused.Add(1)
	return nil
}

// children are those of the broker, with zombies.
func (c *crowd) children() []int { return testutil.Children(c.t, c.broker.PID()) }

// heap is what the broker's heap has after a collection, in bytes.
func (c *crowd) heap() (n int) {
	c.t.Helper()
	c.broker.must(c.broker.Ask(context.Background(), question{Heap: true}, &n))
	return n
}

func (c *crowd) resident() int64 {
	c.t.Helper()
	n, err := c.broker.ResidentSet()
	if err != nil {
		c.t.Error(err)
	}
	return n
}

// watch looks at the broker until ended is closed.
func (c *crowd) watch(ended <-chan struct{}) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		children := c.children()
		zombies := slices.DeleteFunc(slices.Clone(children), func(pid int) bool { return !world.Ended(pid) })
		n, err := c.broker.Descriptors()
		if err != nil {
			c.t.Error(err)
		}
		f := c.figures
		f.peak, f.descriptors = max(f.peak, c.resident()), max(f.descriptors, n)
		f.children, f.zombies = max(f.children, len(children)), max(f.zombies, len(zombies))
		select {
		case <-tick.C:
		case <-ended:
			return
		}
	}
}

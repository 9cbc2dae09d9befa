package broker_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestSilentInstanceIsLastChoice: a frozen instance costs one client its deadline,
// not every one. Once it answers, even late, it is asked again; an answer to what it
// was never asked is none.
func TestSilentInstanceIsLastChoice(t *testing.T) {
	s := newSite(t, nil)
	s.listen(demoVersion)
	frozen := s.fake(demoVersion) // registered last: asked first
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	missed := frozen.receive()
	s.AckOverdue()
	readHandedOver(t, c) // by the other one
	frozen.ack(missed, func(a *wire.Ack) { a.HandoffId += 1 << 40 })
	testutil.WaitFor(t, "its noise is in", func() bool { return readStatus(t, s).Handoffs.StrayAck == 1 })
	c = s.dial()
	send(t, c, helloFor(t, noHandoff, nil))
	if g := readGrant(t, c); g.BackendPipe == frozen.pipe {
		t.Error("a client was sent to the frozen instance, which only made a noise")
	}
	for range 3 {
		c := s.dial()
		send(t, c, helloFor(t, usherClient, nil))
		readHandedOver(t, c)
		c = s.dial()
		send(t, c, helloFor(t, noHandoff, nil))
		if g := readGrant(t, c); g.BackendPipe == frozen.pipe {
			t.Error("a client was sent to the frozen instance")
		}
	}
	frozen.ack(missed, asNack) // thawed: it answers what it slept through
	testutil.WaitFor(t, "its answer is in", func() bool { return readStatus(t, s).Handoffs.StrayAck == 2 })
	c = s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	frozen.ack(frozen.receive(), nil)
}

// TestHugeTraceHarmsNobody: an offer that one client inflates beyond a channel's
// message is not handed off, and is no fault of the backend.
func TestHugeTraceHarmsNobody(t *testing.T) {
	s := newSite(t, nil)
	l := s.listen(demoVersion)
	for range 10 {
		c := s.dial()
		r := hello.Request{Service: demo, Version: demoVersion, Capabilities: usherClient}
		f := frame.Request(frame.Control, 9, wire.Marshal(r.Hello()))
		f.Tracestate = strings.Repeat("t", 12<<10)
		send(t, c, bytesOf(t, f))
		if g := readGrant(t, c); g.BackendPipe != l.Addr().String() || len(g.HandlePassedToken) != 0 {
			t.Fatalf("granted %v", g)
		}
	}
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	readHandedOver(t, c)
	if n := readStatus(t, s).Handoffs.Retried; n != 0 {
		t.Errorf("%d retries of what no backend could take", n)
	}
}

// TestTwoListenersOfOneProcess serve side by side.
func TestTwoListenersOfOneProcess(t *testing.T) {
	s := newSite(t, nil)
	s.listen(demoVersion)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	second, err := backend.Listen(ctx, backend.Options{
		Service: demo, Version: demoVersion, Broker: s.Socket(), Pipe: filepath.Join(s.dir, "second"),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Close() }()
	if err := second.WaitRegistered(ctx); err != nil {
		t.Fatal(err)
	}
	s.settle()
	if n := s.Backends(); n != 2 {
		t.Errorf("%d backends are registered, want 2", n)
	}
}

// TestAttemptsPerMinute: the label really acts.
func TestAttemptsPerMinute(t *testing.T) {
	s := newSite(t, nil)
	s.define(demo, `labels = { "handoff.max_attempts_per_minute" = "2" }`)
	l := s.listen(demoVersion)
	for range 2 {
		c := s.dial()
		send(t, c, helloFor(t, usherClient, nil))
		readHandedOver(t, c)
	}
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	readSentAway(t, c, l.Addr().String())
}

// TestDrainWithFullTable: a broker without a free descriptor ends when told to.
func TestDrainWithFullTable(t *testing.T) {
	p, _ := ownBroker(t)
	limit(t, p, 0)
	p.end()
}

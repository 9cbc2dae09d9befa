package broker_test

import (
	"context"
	"testing"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestHandoffLabel: usher's clients get a handoff unless the service says no,
// plain v1 clients only where it says yes, and whoever offers nothing none.
func TestHandoffLabel(t *testing.T) {
	for _, c := range []struct {
		label        string
		capabilities uint64
		handedOver   bool
	}{
		{"", usherClient, true},
		{"", v1Client, false},
		{"", noHandoff, false},
		{"true", usherClient, true},
		{"true", v1Client, true},
		{"true", noHandoff, false},
		{"false", usherClient, false},
		{"false", v1Client, false},
		{"false", noHandoff, false},
	} {
		t.Run(c.label, func(t *testing.T) {
			s := newSite(t, nil)
			if c.label != "" {
				s.define(demo, "labels = { \"handoff.enabled\" = \""+c.label+"\" }")
			}
			l := s.listen(demoVersion)
			conn := s.dial()
			send(t, conn, helloFor(t, c.capabilities, nil))
			if !c.handedOver {
				readSentAway(t, conn, l.Addr().String())
				return
			}
			readHandedOver(t, conn)
			checkEcho(t, conn)
		})
	}
}

// TestBadLabel: a label that says neither yes nor no is no policy.
func TestBadLabel(t *testing.T) {
	s := newSite(t, nil)
	s.define(demo, `labels = { "handoff.enabled" = "perhaps" }`)
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	readRefusal(t, c, wire.ErrorCode_ERROR_SERVICE_UNKNOWN, "")
}

// TestClientOfTheSDK: the same through the SDK, with the handoff and without.
func TestClientOfTheSDK(t *testing.T) {
	s := newSite(t, nil)
	l := s.listen(demoVersion)
	for _, noHandoff := range []bool{false, true} {
		c, err := client.Dial(context.Background(), client.Options{
			Service: demo, Version: demoVersion, Broker: s.Socket(), Timeout: patience, NoHandoff: noHandoff,
		})
		if err != nil {
			t.Fatal(err)
		}
		want := client.HandedOver
		if noHandoff {
			want = client.Reconnected
		}
		if c.Route() != want || c.Endpoint() != l.Addr().String() {
			t.Errorf("NoHandoff %v: %s at %s", noHandoff, c.Route(), c.Endpoint())
		}
		checkEcho(t, c)
		_ = c.Close()
	}
}

// TestFailureWindow: after eight failures in a row no client waits for the same
// backend again; one success in between starts the count anew.
func TestFailureWindow(t *testing.T) {
	s := newSite(t, nil)
	b := s.fake(demoVersion)
	attempt := func(answer func(*offered)) {
		t.Helper()
		c := s.dial()
		send(t, c, helloFor(t, usherClient, nil))
		answer(b.receive())
		readGrant(t, c)
		s.settle()
	}
	for range 7 {
		attempt(b.nack)
	}
	attempt(func(o *offered) { b.adopt(o); b.ack(o, nil) })
	for range 8 {
		attempt(b.nack)
	}
	for range 3 {
		c := s.dial()
		send(t, c, helloFor(t, usherClient, nil))
		readSentAway(t, c, b.pipe) // though nobody receives an offer
	}
	checkHandoffs(t, s, handoffCounts{Adopted: 1, NotTaken: 15, Fallbacks: nacked(15)})
	if n := clientCounts(t, s).Reconnected; n != 18 {
		t.Errorf("%d clients were sent to the pipe, want 18", n)
	}
}

// TestKeepalive: the client's own wish, or the default.
func TestKeepalive(t *testing.T) {
	s := newSite(t, nil)
	b := s.fake(demoVersion)
	for wish, want := range map[uint64]uint64{0: 1800, 30: 30} {
		c := s.dial()
		h := hello.Request{Service: demo, Version: demoVersion}.Hello()
		h.ClientKeepaliveSecs = wish
		send(t, c, helloFrame(t, h))
		if g := readSentAway(t, c, b.pipe); g.KeepaliveIntervalSecs != want || g.DaemonVersion != demoVersion {
			t.Errorf("wish %d: %v", wish, g)
		}
	}
}

// TestTraceTooLong: an offer that does not fit a channel is no handoff, and the
// client is served all the same.
func TestTraceTooLong(t *testing.T) {
	s := newSite(t, nil)
	b := s.fake(demoVersion)
	f := frame.Request(frame.Control, 9, wire.Marshal(hello.Request{
		Service: demo, Version: demoVersion, Capabilities: usherClient,
	}.Hello()))
	f.Tracestate = string(make([]byte, 60<<10))
	c := s.dial()
	send(t, c, bytesOf(t, f))
	g := readSentAway(t, c, b.pipe)
	if g.ConnectionId != 1 {
		t.Errorf("got %v", g)
	}
}

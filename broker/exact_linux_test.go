package broker_test

import (
	"fmt"
	"testing"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// early is a request that a client sends behind its Hello.
const early = "GET / HTTP/1.1\r\n\r\n"

func earlyHello(t *testing.T) []byte {
	t.Helper()
	return helloFor(t, frame.CapUsher, func(r *hello.Request) { r.EarlyDataLen = uint32(len(early)) })
}

// TestHelloIsReadExactly: the broker takes the Hello and not a byte more,
// however the bytes arrive; what is behind it reaches the backend.
func TestHelloIsReadExactly(t *testing.T) {
	s := newSite(t, nil)
	s.listen(demoVersion)
	wire := append(earlyHello(t), early...)
	adopted := 0
	for at := range wire {
		c := s.dial()
		send(t, c, wire[:at])
		send(t, c, wire[at:])
		f, reply := readReply(t, c)
		checkEnvelope(t, f, 9, true)
		if len(testutil.Granted(reply).HandlePassedToken) != 16 {
			t.Fatalf("split at %d: %v", at, reply)
		}
		readFrame(t, c) // the ready event
		readExactly(t, c, early)
		checkEcho(t, c)
		_ = c.Close()
		adopted++
	}
	checkHandoffs(t, s, handoffCounts{Adopted: adopted})
}

// TestEarlyDataStaysUnread: at the moment of the offer nothing but the Hello has
// been read, and the offer says how much follows.
func TestEarlyDataStaysUnread(t *testing.T) {
	s := newSite(t, nil)
	b := s.fake(demoVersion)
	c := s.dial()
	send(t, c, append(earlyHello(t), early...))
	o := b.receive()
	if o.EarlyDataLen != uint32(len(early)) || o.Traceparent != "00-trace-parent-01" || o.Tracestate != "rp=1" || o.ConnectionId != 1 {
		t.Errorf("offer %v", o.Offer)
	}
	served := b.adopt(o)
	readExactly(t, served, early)
	send(t, served, []byte("200"))
	b.ack(o, nil)
	readHandedOver(t, c)
	readExactly(t, c, "200")
	checkHandoffs(t, s, handoffCounts{Adopted: 1})
	// The broker's copy is closed: when the backend ends it, the client sees it.
	_ = served.Close()
	readEnd(t, c)
}

// TestTokensAreNew: each handoff has its own token, connection and handoff id.
func TestTokensAreNew(t *testing.T) {
	s := newSite(t, nil)
	b := s.fake(demoVersion)
	seen := make(map[string]bool)
	for n := range 50 {
		c := s.dial()
		send(t, c, helloFor(t, usherClient, nil))
		o := b.receive()
		for _, key := range []string{string(o.Token), fmt.Sprint("handoff ", o.HandoffId), fmt.Sprint("connection ", o.ConnectionId)} {
			if seen[key] {
				t.Fatalf("handoff %d repeats %q", n, key)
			}
			seen[key] = true
		}
		b.adopt(o)
		b.ack(o, nil)
		if g := readHandedOver(t, c); string(g.HandlePassedToken) != string(o.Token) || g.ConnectionId != o.ConnectionId {
			t.Errorf("granted %v for offer %v", g, o.Offer)
		}
	}
	checkHandoffs(t, s, handoffCounts{Adopted: 50})
}

package broker_test

import (
	"net"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

const rateLimited = wire.ErrorCode_ERROR_RATE_LIMITED

// TestSilentFlood: silent connections are bounded per process and in total.
// Whoever comes on top is told when to come again, and other processes are
// served as long as there is room.
func TestSilentFlood(t *testing.T) {
	s := newSite(t, func(o *options) { o.MaxHandshakes, o.MaxHandshakesPerPeer = 12, 8 })
	s.listen(demoVersion)
	other := start(t, "client", envSocket+"="+s.Socket())
	s.settle()
	var silent []net.Conn
	for range 8 {
		silent = append(silent, s.dial())
	}
	for range 50 {
		c := s.dial()
		if refused := readRefusal(t, c, rateLimited, ""); refused.RetryAfterMs == 0 {
			t.Error("no hint when to come again")
		}
		_ = c.Close()
	}
	if got := other.dials(); got != "handed_over" {
		t.Errorf("another process got %s", got)
	}
	testutil.WaitFor(t, "only the silent ones are held", func() bool { n, _ := s.Pending(); return n == 8 })
	for _, c := range silent {
		_ = c.Close()
	}
	s.settle()
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	readHandedOver(t, c)
	checkEcho(t, c)
	other.end()
}

// TestTotalFlood: the bound in total holds where the one per process does not. At
// the bound whoever has been silent longest makes room, so those who only connect
// keep nobody out; where all have spoken, the newcomer is told to come again.
func TestTotalFlood(t *testing.T) {
	s := newSite(t, func(o *options) { o.MaxHandshakes, o.MaxHandshakesPerPeer, o.AckDeadline = 4, 100, time.Minute })
	other := start(t, "client", envSocket+"="+s.Socket())
	oldest := s.dial()
	for range 3 {
		s.dial()
	}
	held := func(want int) {
		t.Helper()
		testutil.WaitFor(t, "who had to go has gone", func() bool { n, _ := s.Pending(); return n == want })
	}
	held(4)
	if got := other.dialsFor(2 * time.Second); got != "ERROR_SERVICE_UNKNOWN" && got != "ERROR_BACKEND_SPAWN_FAILED" {
		t.Errorf("another process got %s", got)
	}
	readRefusal(t, oldest, rateLimited, "too many connections without a verdict")
	held(3)
	b := s.fake(demoVersion)
	held(3)
	var offers []*offered
	for range 4 {
		send(t, s.dial(), helloFor(t, usherClient, nil))
		offers = append(offers, b.receive())
		held(4)
	}
	if got := other.dialsFor(2 * time.Second); got != "ERROR_RATE_LIMITED" {
		t.Errorf("where all have spoken, another process got %s", got)
	}
	other.end()
	for _, o := range offers {
		b.nack(o)
	}
}

// TestHelloFlood: one process that asks too often is told when its window ends;
// another one is served.
func TestHelloFlood(t *testing.T) {
	const rate = 8
	s := newSite(t, func(o *options) { o.HelloRate = rate })
	s.listen(demoVersion)
	other := start(t, "client", envSocket+"="+s.Socket())
	raw := helloFor(t, noHandoff, nil)
	var refused *wire.Refused
	for n := 0; refused == nil; n++ {
		if n == 100*rate {
			t.Fatalf("%d Hellos were served", n)
		}
		c := s.dial()
		send(t, c, raw)
		_, reply := readReply(t, c)
		refused = reply.Refused
		_ = c.Close()
	}
	if refused.Code != rateLimited || refused.Reason != "Hello rate limit exceeded" || refused.RetryAfterMs < 1 || refused.RetryAfterMs > 1000 {
		t.Errorf("got %v", refused)
	}
	if got := other.dials(); got != "handed_over" {
		t.Errorf("another process got %s", got)
	}
	other.end()
}

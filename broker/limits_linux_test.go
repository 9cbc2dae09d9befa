package broker_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestFrozenServiceLeavesRoom: the clients of a service whose backend never answers
// take a part of the handoffs in flight; on top of that they are told to reconnect, and
// another service is served at once.
func TestFrozenServiceLeavesRoom(t *testing.T) {
	s := newSite(t, func(o *options) {
		o.MaxHandshakes, o.MaxHandshakesPerPeer, o.AckDeadline = 32, 1000, time.Minute
	})
	s.define("other", "")
	frozen := s.fake(demoVersion)
	_, ch, err := register(s.Socket(), &wire.Register{ServiceName: "other", ServiceVersion: demoVersion, BackendPipe: s.pipe("other")})
	if err != nil {
		t.Fatal(err)
	}
	other := &fake{tb: t, ch: ch, pipe: s.pipe("other")}
	s.later = append(s.later, func() { _ = ch.Close() })
	var waiting []net.Conn
	for range 8 {
		c := s.dial()
		send(t, c, helloFor(t, usherClient, nil))
		waiting = append(waiting, c)
		frozen.receive() // and says nothing
	}
	for range 40 {
		c := s.dial()
		send(t, c, helloFor(t, usherClient, nil))
		readSentAway(t, c, frozen.pipe)
	}
	c := s.dial()
	send(t, c, helloFor(t, usherClient, func(r *hello.Request) { r.Service = "other" }))
	o := other.receive()
	other.adopt(o)
	other.ack(o, nil)
	readHandedOver(t, c)
	_ = frozen.ch.Close()
	for _, c := range waiting { // their claims are the broker's again
		readPipe(t, c, frozen.pipe)
	}
}

// TestTableFullWhileReading: a Hello whose definition has to be read while silent
// connections hold every descriptor is served all the same.
func TestTableFullWhileReading(t *testing.T) {
	p, s := ownBroker(t)
	b := s.echoProcess(filepath.Join(s.dir, "echo"))
	speaks := s.dial()
	var silent net.Conn
	for range 8 {
		silent = s.dial()
	}
	send(t, silent, []byte{2})
	readRefusal(t, silent, wire.ErrorCode_ERROR_VERSION_UNSUPPORTED, "") // so all are accepted
	readEnd(t, silent)
	limit(t, p, firstFree(t, p))
	s.define(demo, "") // what the broker has read of it is old
	send(t, speaks, helloFor(t, usherClient, nil))
	if testutil.Portable { // there is no room for a claim
		readPipe(t, speaks, filepath.Join(s.dir, "echo"))
	} else {
		readHandedOver(t, speaks)
		checkEcho(t, speaks)
	}
	b.end()
	p.end()
}

// firstFree is the lowest number that no descriptor of p has.
func firstFree(t *testing.T, p *process) (n uint64) {
	t.Helper()
	for ; ; n++ {
		switch _, err := os.Lstat(fmt.Sprintf("/proc/%d/fd/%d", p.Process.Pid, n)); {
		case errors.Is(err, fs.ErrNotExist):
			return n
		case err != nil:
			t.Fatal(err)
		}
	}
}

// TestBackendsPerProcess: one process can't take every place, and gets its own back
// when it registers again.
func TestBackendsPerProcess(t *testing.T) {
	s := newSite(t, func(o *options) { o.MaxBackends = 16 * 9 })
	var own []*fake
	for n := range 9 {
		own = append(own, s.fake(fmt.Sprintf("1.0.%d", n)))
	}
	answer, ch, err := register(s.Socket(), &wire.Register{ServiceName: demo, ServiceVersion: "2.0.0", BackendPipe: s.pipe("p")})
	if err != nil || ch != nil || !strings.Contains(answer.Reason, "has registered 9 backends already") {
		t.Errorf("one too many: %v, %v", answer, err)
	}
	s.fake("1.0.0")
	own[0].ended()
	other := s.echoProcess(filepath.Join(s.dir, "echo"))
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	readHandedOver(t, c)
	checkEcho(t, c)
	other.end()
}

// TestFewDescriptors: silent connections that fill a small descriptor table make room
// for those who speak, both where the broker knew its limit and where that was lowered
// under it.
func TestFewDescriptors(t *testing.T) {
	const few = 64
	for name, begin := range map[string]func(*process){
		"from the start": nil,
		"lowered later":  func(p *process) { limit(t, p, few) },
	} {
		t.Run(name, func(t *testing.T) {
			if begin != nil {
				testutil.Needs(t, "a wait for more descriptors than the process may have")
			}
			own := ""
			if begin == nil {
				own = fmt.Sprint(few)
			}
			p, s := ownBroker(t, envMode+"="+own)
			b := s.echoProcess(filepath.Join(s.dir, "echo"))
			if begin != nil {
				begin(p)
			}
			other := start(t, "client", envSocket+"="+s.Socket())
			for range 2 * few {
				s.dial()
			}
			// One refusal is as good as none: the table was full a moment ago.
			served, tries := 0, 0
			for ; served < 3 && tries < 20; tries++ {
				if other.dials() == "handed_over" {
					served++
				}
			}
			if served < 3 {
				t.Errorf("others are served %d times in %d", served, tries)
			}
			if n := clientCounts(t, s).AcceptFailures; begin == nil && n > 0 {
				t.Errorf("%d accepts failed, though the limit was known", n)
			}
			other.end()
			b.end()
			p.end()
		})
	}
}

// TestStockClientOfAFrozenBackend: a client without usher's capability has its reply
// within the 2 s after which it would reconnect anyway, two attempts included.
func TestStockClientOfAFrozenBackend(t *testing.T) {
	s := newSite(t, func(o *options) { o.AckDeadline = 5 * time.Second }) // usher's clients'
	s.define(demo, `labels = {"handoff.enabled" = "true"}`)
	first := s.fake(demoVersion)
	s.silent("second")
	c := s.dial()
	began := time.Now()
	send(t, c, helloFor(t, v1Client, nil))
	readPipe(t, c, first.pipe)
	if took := time.Since(began); took > 4*time.Second { // twice as long, for a busy machine; one attempt of usher's takes longer
		t.Errorf("the reply came after %v", took)
	}
	checkHandoffs(t, s, handoffCounts{NotTaken: 2, Retried: 1, Fallbacks: noAnswer(2)})
}

// silent registers another fake backend of demo, in a process of its own name.
func (s *site) silent(pipe string) *fake {
	s.tb.Helper()
	answer, ch, err := register(s.Socket(), &wire.Register{ServiceName: demo, ServiceVersion: demoVersion, BackendPipe: s.pipe(pipe)})
	if err != nil || !answer.Accepted {
		s.tb.Fatal(answer, err)
	}
	s.later = append(s.later, func() { _ = ch.Close() })
	return &fake{tb: s.tb, ch: ch, pipe: s.pipe(pipe)}
}

// TestSilentInstanceIsNotNamed: a client that reconnects is sent to an instance that
// answers, not to the one that has just been found silent.
func TestSilentInstanceIsNotNamed(t *testing.T) {
	s := newSite(t, nil)
	frozen := s.silent("frozen")
	good := s.fake(demoVersion) // registered last: asked first
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	good.nack(good.receive())
	frozen.receive() // the second try
	s.AckOverdue()
	readPipe(t, c, good.pipe)
}

// TestTimelyAckAfterALongTime: an acknowledgement deadline of minutes is what it says:
// a token lives as long.
func TestTimelyAckAfterALongTime(t *testing.T) {
	s := unserved(t, func(o *options) { o.AckDeadline = 5 * time.Minute })
	forward := s.AdvanceClock()
	s.serve()
	b := s.fake(demoVersion)
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	o := b.receive()
	forward(4 * time.Minute)
	b.adopt(o)
	b.ack(o, nil)
	readHandedOver(t, c)
	checkHandoffs(t, s, handoffCounts{Adopted: 1})
}

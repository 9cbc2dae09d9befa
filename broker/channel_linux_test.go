package broker_test

import (
	"testing"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// noAnswer is how an attempt is counted that got no valid answer.
func noAnswer(n int) []fallbackCount {
	return []fallbackCount{{string(handoff.StageAwaitAck), string(handoff.BackendAckTimeout), n}}
}

// nacked is how an attempt is counted that got a NACK.
func nacked(n int) []fallbackCount {
	return []fallbackCount{{string(handoff.StageAwaitAck), "Nack", n}}
}

// TestBackendBreaksProtocol: a backend that answers with what it can't know ends
// its channel. The connection it did not take is the broker's, and the client is
// sent to the pipe at once, not at the deadline.
func TestBackendBreaksProtocol(t *testing.T) {
	for name, answer := range map[string]func(f *fake, o, other *offered){
		"wrong token":         func(f *fake, o, _ *offered) { f.ack(o, func(a *wire.Ack) { a.Token[0]++ }) },
		"short token":         func(f *fake, o, _ *offered) { f.ack(o, func(a *wire.Ack) { a.Token = a.Token[:15] }) },
		"no token":            func(f *fake, o, _ *offered) { f.ack(o, func(a *wire.Ack) { a.Token = nil }) },
		"token of another":    func(f *fake, o, other *offered) { f.ack(o, func(a *wire.Ack) { a.Token = other.Token }) },
		"nack, wrong token":   func(f *fake, o, _ *offered) { f.ack(o, func(a *wire.Ack) { asNack(a); a.Token[0]++ }) },
		"garbage":             func(f *fake, _, _ *offered) { f.raw([]byte("garbage")) },
		"another version":     func(f *fake, _, _ *offered) { f.raw([]byte{2, 0, 0, 0, 0}) },
		"length does not fit": func(f *fake, _, _ *offered) { f.raw([]byte{1, 9, 0, 0, 0, 8}) },
		"not a frame":         func(f *fake, _, _ *offered) { f.raw([]byte{1, 1, 0, 0, 0, 0xff}) },
		"another envelope": func(f *fake, o, _ *offered) {
			f.raw(bytesOf(f.tb, &wire.Frame{EnvelopeVersion: 2, PayloadProtocol: frame.Channel}))
		},
		"hangs up": func(f *fake, _, _ *offered) { _ = f.ch.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			if name == "length does not fit" {
				testutil.Needs(t, "datagrams: on a stream the rest may follow")
			}
			s := newSite(t, func(o *options) { o.AckDeadline = time.Minute })
			b := s.fake(demoVersion)
			first, second := s.dial(), s.dial()
			send(t, first, helloFor(t, usherClient, nil))
			o := b.receive()
			send(t, second, helloFor(t, usherClient, nil))
			other := b.receive()
			answer(b, o, other)
			readPipe(t, first, b.pipe)
			readPipe(t, second, b.pipe)
			if b.take(o) || b.take(other) {
				t.Error("the backend could still take a connection")
			}
			b.ended()
			testutil.WaitFor(t, "the backend has left", func() bool { return s.Backends() == 0 })
			checkHandoffs(t, s, handoffCounts{NotTaken: 2, Fallbacks: noAnswer(2)})
			s.fake(demoVersion) // it may register again
		})
	}
}

// raw sends bytes over the channel.
func (f *fake) raw(b []byte) {
	f.tb.Helper()
	if err := f.ch.Send(b); err != nil {
		f.tb.Fatal(err)
	}
}

// TestAckAfterEnd: repeated and late answers are counted, and change nothing.
func TestAckAfterEnd(t *testing.T) {
	s := newSite(t, nil)
	b := s.fake(demoVersion)
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	o := b.receive()
	served := b.adopt(o)
	b.ack(o, nil)
	readHandedOver(t, c)
	s.settle()
	b.ack(o, nil)
	b.ack(o, asNack)
	b.ack(o, func(a *wire.Ack) { a.HandoffId, a.Token = 4711, nil })
	testutil.WaitFor(t, "strays are counted", func() bool { return readStatus(t, s).Handoffs.StrayAck == 3 })
	testutil.CheckConnected(t, served, c)
	again := s.dial()
	send(t, again, helloFor(t, usherClient, nil))
	o = b.receive() // the channel lives
	b.adopt(o)
	b.ack(o, nil)
	readHandedOver(t, again)
	checkHandoffs(t, s, handoffCounts{Adopted: 2, StrayAck: 3})
}

// TestSilentBackend: a backend that never answers costs its deadline. What it did
// not take it can't take any more.
func TestSilentBackend(t *testing.T) {
	s := newSite(t, func(o *options) { o.AckDeadline = 50 * time.Millisecond })
	b := s.fake(demoVersion)
	c := s.dial()
	send(t, c, append(earlyHello(t), early...))
	o := b.receive()
	readPipe(t, c, b.pipe)
	if b.take(o) {
		t.Error("the claim was still there")
	}
	b.ack(o, asNack) // late
	testutil.WaitFor(t, "it is counted", func() bool { return readStatus(t, s).Handoffs.StrayAck == 1 })
	checkHandoffs(t, s, handoffCounts{NotTaken: 1, StrayAck: 1, Fallbacks: noAnswer(1)})
}

// TestHelloTimeoutDuringHandoff: a client that was given to a slow backend gets
// its verdict however long that took.
func TestHelloTimeoutDuringHandoff(t *testing.T) {
	s := newSite(t, func(o *options) { o.AckDeadline = 1500 * time.Millisecond })
	b := s.fake(demoVersion)
	s.SetHelloTimeout(time.Second)
	c, began := s.dial(), time.Now()
	send(t, c, helloFor(t, usherClient, nil))
	b.receive()
	readPipe(t, c, b.pipe)
	if took := time.Since(began); took < 1500*time.Millisecond {
		t.Errorf("its backend had %v", took)
	}
}

// TestSilentAdopter: a backend that adopts and never says so keeps what it has.
// The client has one reply, the backend's.
func TestSilentAdopter(t *testing.T) {
	s := newSite(t, nil)
	b := s.fake(demoVersion)
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	o := b.receive()
	served := b.adopt(o)
	readHandedOver(t, c)
	s.AckOverdue()
	s.settle()
	testutil.CheckConnected(t, served, c)
	testutil.CheckConnected(t, c, served)
	b.ack(o, nil)
	testutil.WaitFor(t, "the late answer is counted", func() bool { return readStatus(t, s).Handoffs.StrayAck == 1 })
	checkHandoffs(t, s, handoffCounts{Adopted: 1, LateAck: 1, StrayAck: 1, Fallbacks: noAnswer(1)})
}

// TestAdopterLeaves: a backend that adopts and hangs up without an answer owns
// the connection all the same.
func TestAdopterLeaves(t *testing.T) {
	s := newSite(t, func(o *options) { o.AckDeadline = time.Minute })
	b := s.fake(demoVersion)
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	o := b.receive()
	served := b.adopt(o)
	_ = b.ch.Close()
	readHandedOver(t, c)
	s.settle()
	testutil.CheckConnected(t, served, c)
	checkHandoffs(t, s, handoffCounts{Adopted: 1, LateAck: 1, Fallbacks: noAnswer(1)})
}

// TestNoOtherInstance: without another instance a NACK sends the client to the
// pipe.
func TestNoOtherInstance(t *testing.T) {
	s := newSite(t, nil)
	b := s.fake(demoVersion)
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	o := b.receive()
	b.nack(o)
	readSentAway(t, c, b.pipe)
	checkHandoffs(t, s, handoffCounts{NotTaken: 1, Fallbacks: nacked(1)})
}

// TestNackWithoutToken: a backend that could not read an offer knows its number
// at most.
func TestNackWithoutToken(t *testing.T) {
	s := newSite(t, func(o *options) { o.AckDeadline = time.Minute })
	b := s.fake(demoVersion)
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	o := b.receive()
	o.fds.Close()
	b.ack(o, func(a *wire.Ack) { asNack(a); a.Token = nil })
	readSentAway(t, c, b.pipe)
}

// TestFalseNack: a NACK does not undo an adoption. The claim has the last word.
func TestFalseNack(t *testing.T) {
	s := newSite(t, nil)
	b := s.fake(demoVersion)
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	o := b.receive()
	served := b.adopt(o)
	b.ack(o, asNack)
	readHandedOver(t, c)
	s.settle()
	testutil.CheckConnected(t, served, c)
	checkHandoffs(t, s, handoffCounts{Adopted: 1, LateAck: 1, Fallbacks: nacked(1)})
}

// TestClientGone: a client that leaves during its handoff harms nobody.
func TestClientGone(t *testing.T) {
	s := newSite(t, nil)
	b := s.fake(demoVersion)
	for _, adopted := range []bool{false, true} {
		c := s.dial()
		send(t, c, helloFor(t, usherClient, nil))
		o := b.receive()
		_ = c.Close()
		if adopted {
			if !b.take(o) {
				t.Fatal("the claim is gone")
			}
			b.ack(o, nil)
		} else {
			b.ack(o, asNack)
		}
		s.settle()
		o.fds.Close()
	}
	if gone := clientCounts(t, s).Gone; gone != 1 {
		t.Errorf("%d clients are counted as gone", gone)
	}
}

// TestHalfClosedClient: a client that has said all it has to say is handed over
// like any other.
func TestHalfClosedClient(t *testing.T) {
	s := newSite(t, nil)
	s.listen(demoVersion)
	c := s.dial()
	send(t, c, append(earlyHello(t), early...))
	_ = c.CloseWrite()
	readHandedOver(t, c)
	readExactly(t, c, early)
	readEnd(t, c)
}

//go:build linux && !usher_portable

package broker_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// paged is a fake backend that takes its claims from a page.
type paged struct {
	*fake
	page   *claim.Page
	memory []byte // the same page, to be ruined
}

func (s *site) paged(version string) *paged {
	s.tb.Helper()
	pipe := s.pipe("paged-" + version)
	answer, fds, err := registration(s.Socket(), &wire.Register{ServiceName: demo, ServiceVersion: version, BackendPipe: pipe, ClaimPage: true})
	defer fds.Close()
	if err != nil || !answer.Accepted || !answer.ClaimPage || fds.Len() != 2 {
		s.tb.Fatalf("registration: %v, %v, %d descriptors", answer, err, fds.Len())
	}
	fd := fds.Take(1)
	memory, err := unix.Mmap(sock.Number(fd), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		s.tb.Fatal(err)
	}
	page, err := claim.ReceivePage(fd)
	if err != nil {
		s.tb.Fatal(err)
	}
	p := &paged{&fake{tb: s.tb, ch: sock.NewChannel(fds.Take(0)), pipe: pipe}, page, memory}
	s.later = append(s.later, func() { _ = p.ch.Close(); page.Close(); _ = unix.Munmap(memory) })
	return p
}

// inPage is the claim of an offer, which brought the connection alone.
func (p *paged) inPage(o *offered) *claim.Claim {
	p.tb.Helper()
	if o.fds.Len() != 1 {
		p.tb.Fatalf("%d descriptors beside a claim in the page", o.fds.Len())
	}
	c, err := p.page.Claim(o.ClaimWord, o.ClaimGeneration)
	if err != nil {
		p.tb.Fatal(err)
	}
	return c
}

func (p *paged) checkTake(c *claim.Claim, want bool) {
	p.tb.Helper()
	if won, err := c.Take(); won != want || err != nil {
		p.tb.Fatalf("took %v, %v; want %v", won, err, want)
	}
}

// TestAckInPage: the broker finds the ACK by itself, with nothing to wake it and long
// before its deadline, closes its copy, and has read no message. The word serves again.
func TestAckInPage(t *testing.T) {
	s := newSite(t, func(o *options) { o.AckDeadline = time.Minute })
	b := s.paged(demoVersion)
	for n := range 5 {
		c := s.dial()
		send(t, c, append(earlyHello(t), early...))
		o := b.receive()
		mine := b.inPage(o)
		for began := time.Now(); n == 0 && time.Since(began) < 50*time.Millisecond; {
			readStatus(t, s) // it has looked in vain, more than once
		}
		if o.ClaimWord != 0 {
			t.Errorf("word %d, though none is in use", o.ClaimWord)
		}
		b.checkTake(mine, true)
		served := fileConn(t, o.fds.Take(0))
		send(t, served, o.Preamble)
		readExactly(t, served, early)
		if !mine.Acknowledge() {
			t.Fatal("the broker does not wait")
		}
		readHandedOver(t, c)
		s.settle()
		_ = served.Close() // the last copy, so the client sees it
		readEnd(t, c)
	}
	checkHandoffs(t, s, handoffCounts{Adopted: 5})
}

// TestNackInPage: the claim of a refused offer is the broker's again.
func TestNackInPage(t *testing.T) {
	s := newSite(t, nil)
	b := s.paged(demoVersion)
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	o := b.receive()
	mine := b.inPage(o)
	b.nack(o)
	readPipe(t, c, b.pipe)
	b.checkTake(mine, false)
	checkHandoffs(t, s, handoffCounts{NotTaken: 1, Fallbacks: nacked(1)})
}

// TestSilentInPage: at the deadline the word decides, either way, and what comes
// later changes nothing.
func TestSilentInPage(t *testing.T) {
	s := newSite(t, nil)
	b := s.paged(demoVersion)
	left := s.dial()
	send(t, left, helloFor(t, usherClient, nil))
	o := b.receive()
	mine := b.inPage(o)
	s.AckOverdue()
	readPipe(t, left, b.pipe)
	b.checkTake(mine, false)
	b.ack(o, asNack)

	kept := s.dial()
	send(t, kept, helloFor(t, usherClient, nil))
	o = b.receive()
	mine = b.inPage(o)
	b.checkTake(mine, true)
	served := fileConn(t, o.fds.Take(0))
	send(t, served, o.Preamble)
	readHandedOver(t, kept)
	s.AckOverdue()
	s.settle()
	testutil.CheckConnected(t, served, kept)
	if mine.Acknowledge() {
		t.Error("acknowledged, though the broker had stopped to wait")
	}
	b.ack(o, nil)
	testutil.WaitFor(t, "the late answers are counted", func() bool { return readStatus(t, s).Handoffs.StrayAck == 2 })
	checkHandoffs(t, s, handoffCounts{Adopted: 1, NotTaken: 1, LateAck: 1, StrayAck: 2, Fallbacks: noAnswer(2)})
}

// TestAckInPageThenGone: an ACK that stood in the page when the channel ended is
// an ACK in time.
func TestAckInPageThenGone(t *testing.T) {
	s := newSite(t, func(o *options) { o.AckDeadline = time.Minute })
	b := s.paged(demoVersion)
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	o := b.receive()
	mine := b.inPage(o)
	b.checkTake(mine, true)
	served := fileConn(t, o.fds.Take(0))
	send(t, served, o.Preamble)
	if !mine.Acknowledge() {
		t.Fatal("the broker does not wait")
	}
	_ = b.ch.Close()
	readHandedOver(t, c)
	s.settle()
	testutil.CheckConnected(t, served, c)
	checkHandoffs(t, s, handoffCounts{Adopted: 1})
}

// TestRuinedPage: a backend that writes nonsense into its page harms nobody but
// the clients of its own: who owns their connection is unknown. The others, and
// the next backend, are served.
func TestRuinedPage(t *testing.T) {
	s := newSite(t, func(o *options) { o.AckDeadline = 50 * time.Millisecond })
	b := s.paged(demoVersion)
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	o := b.receive()
	for i := range b.memory {
		b.memory[i] = 0xa5
	}
	s.settle()
	o.fds.Close()
	readEnd(t, c) // nobody may write to it
	checkHandoffs(t, s, handoffCounts{Unknown: 1, Fallbacks: noAnswer(1)})
	_ = b.ch.Close()
	testutil.WaitFor(t, "it has left", func() bool { return s.Backends() == 0 })
	s.listen(demoVersion)
	again := s.dial()
	send(t, again, helloFor(t, usherClient, nil))
	readHandedOver(t, again)
}

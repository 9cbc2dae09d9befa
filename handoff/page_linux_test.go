package handoff

import (
	"context"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestNewClaim: claims are in the page while it has room and the channel lives, and
// descriptors otherwise.
func TestNewClaim(t *testing.T) {
	testutil.Leaks(t)
	l := newLine(t, unix.SOCK_SEQPACKET)
	made := func() (*Claim, bool) {
		c, err := l.NewClaim()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		_, _, inPage := c.InPage()
		return c, inPage
	}
	if _, inPage := made(); inPage {
		t.Error("a claim is in a page that nobody shared")
	}
	fd, err := l.SharePage()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	var last *Claim
	for n := range claim.Words {
		c, inPage := made()
		if !inPage {
			t.Fatalf("claim %d is not in the page", n)
		}
		last = c
	}
	if _, inPage := made(); inPage {
		t.Error("the page holds more than it has words")
	}
	last.Close()
	if _, inPage := made(); !inPage {
		t.Error("a word that is free again is not used")
	}
	l.Retire()
	if _, inPage := made(); inPage {
		t.Error("a channel that has ended gives words away")
	}
}

// TestUnansweredButAcknowledged: an ACK that stands in the page counts, whatever
// made the broker stop to wait.
func TestUnansweredButAcknowledged(t *testing.T) {
	testutil.Leaks(t)
	l := newLine(t, unix.SOCK_SEQPACKET)
	fd, err := l.SharePage()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	page, err := claim.ReceivePage(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer page.Close()
	tokens := NewTokens(DefaultTokenConfig())
	o := &Orchestrator{Tokens: tokens, Acks: NewAcks(tokens, DefaultAckDeadline)}
	for name, adopts := range map[string]bool{"acknowledged": true, "taken": false} {
		flight, out := o.Begin(t.Context(), Attempt{Transport: l, NewClaim: l.NewClaim}, func(*Flight) error { return nil })
		if flight == nil {
			t.Fatal(out)
		}
		word, generation, _ := flight.claim.InPage()
		theirs, err := page.Claim(word, generation)
		if err != nil {
			t.Fatal(err)
		}
		if won, err := theirs.Take(); !won || err != nil {
			t.Fatal(won, err)
		}
		if adopts && !theirs.Acknowledge() || flight.Acknowledged() != adopts {
			t.Fatalf("%s: acknowledged %v", name, flight.Acknowledged())
		}
		out = flight.Unanswered(context.Canceled, true)
		if out.Verdict != Adopted || out.Late == adopts || (out.Err == nil) != adopts {
			t.Errorf("%s: %+v", name, out)
		}
	}
	if tokens.Pending() != 0 || o.Acks.Pending() != 0 {
		t.Error("something is pending still")
	}
}

//go:build linux && !usher_portable

package transport

import (
	"errors"
	"io"
	"testing"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wire"
)

// passed is the line with another broker, whose attempts are those of table. The first
// broker's side is closed.
func (l *line) passed(t *testing.T, table *handoff.Table) *line {
	t.Helper()
	p, err := l.Pass()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := sock.DuplicateOf(p.Conn)
	if err != nil {
		t.Fatal(err)
	}
	ch, err := Resume(conn, p, table)
	if err != nil {
		t.Fatal(err)
	}
	l.Retire()
	next := &line{ch, l.backend, l.near, l.conn}
	t.Cleanup(func() {
		for _, a := range next.Retire() {
			a.Close()
		}
	})
	return next
}

// receiveInPage is the next offer, whose claim is in the page.
func (l *line) receiveInPage(t *testing.T) *wire.Offer {
	t.Helper()
	m, err := l.backend.Recv()
	if err != nil {
		t.Fatal(err)
	}
	defer m.FDs.Close()
	f, err := m.Frame()
	if err != nil {
		t.Fatal(err)
	}
	o, err := frame.ParseChannelOffer(f)
	if err != nil || m.FDs.Len() != 1 || o.ClaimGeneration == 0 {
		t.Fatal(o, err)
	}
	return o
}

// TestPassChannel: the second broker's offers reach the backend over the same channel, and
// are answered on it; an answer that is late for an offer of the first one is nobody's, and
// ends nothing.
func TestPassChannel(t *testing.T) {
	l := newLine(t)
	page := l.sharedPage(t)
	var late []*wire.Offer
	for range 3 {
		a := l.offer(t)
		late = append(late, l.receiveInPage(t))
		a.Unanswered(handoff.ErrNoAck, at(1))
		a.Close()
	}
	for hops := range 2 { // tables that differ in size, as those of two builds may
		config := handoff.DefaultConfig()
		config.MaxPending = 7 << hops
		l = l.passed(t, handoff.NewTable(handoff.DefaultConfig())) // which has nothing to offer
		l = l.passed(t, handoff.NewTable(config))
		a := l.offer(t)
		o := l.receiveInPage(t)
		for _, before := range late {
			l.answer(t, accept(before))
			l.wantNobody(t)
			l.answer(t, &wire.Ack{HandoffId: before.HandoffId, Reason: wire.NackReason_NACK_REASON_CLAIM_LOST})
			l.wantNobody(t)
			if o.HandoffId <= before.HandoffId {
				t.Errorf("number %d was followed by %d", before.HandoffId, o.HandoffId)
			}
			if theirs, err := page.Claim(before.ClaimWord, before.ClaimGeneration); err != nil {
				t.Fatal(err)
			} else if won, err := theirs.Take(); won || err != nil {
				t.Errorf("the claim of an offer that is over: %v, %v", won, err)
			}
		}
		theirs, err := page.Claim(o.ClaimWord, o.ClaimGeneration)
		if err != nil {
			t.Fatal(err)
		}
		if won, err := theirs.Take(); !won || err != nil {
			t.Errorf("the claim of the offer: %v, %v", won, err)
		}
		l.answer(t, accept(o))
		got, ack, err := l.Next()
		if err != nil || got != a {
			t.Fatal(got, err)
		}
		if out := got.Answered(ack, at(1)); out.Verdict != handoff.Adopted || out.Late || out.Err != nil {
			t.Errorf("got %+v", out)
		}
		a.Close()
		late = append(late, o)
	}
	l.Retire()
	if _, err := l.backend.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("behind the last broker's end: %v", err)
	}
}

// TestPassChannelInUse: a channel stays where it is while a handoff is under way on it, and
// while a claim in its page is open.
func TestPassChannelInUse(t *testing.T) {
	l := newLine(t)
	bare := l.offer(t)
	if _, err := l.Pass(); err == nil {
		t.Error("passed with an attempt that is pending")
	}
	bare.Unanswered(handoff.ErrNoAck, at(1))
	_ = l.sharedPage(t)
	a := l.offer(t)
	if _, err := l.Pass(); err == nil {
		t.Error("passed with an attempt that is pending")
	}
	a.Unanswered(handoff.ErrNoAck, at(1))
	if _, err := l.Pass(); !errors.Is(err, claim.ErrUnavailable) {
		t.Errorf("passed with an open claim: %v", err)
	}
	a.Close()
	p, err := l.Pass()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Passed){
		"number":     func(p *Passed) { p.Numbered = maxNumbered + 1 },
		"generation": func(p *Passed) { p.Generation = ^uint64(0) },
	} {
		conn, err := sock.DuplicateOf(p.Conn)
		if err != nil {
			t.Fatal(err)
		}
		bad := p
		if bad.Page, err = sock.DuplicateOf(p.Page); err != nil {
			t.Fatal(err)
		}
		change(&bad)
		if _, err := Resume(conn, bad, handoff.NewTable(handoff.DefaultConfig())); err == nil {
			t.Errorf("%s: resumed", name)
		}
	}
	p.Page.Close()
}

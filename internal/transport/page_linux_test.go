//go:build linux && !usher_portable

package transport

import (
	"context"
	"testing"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/claim"
)

// TestClaim: claims are in the page while it has room and the channel lives, and
// descriptors otherwise.
func TestClaim(t *testing.T) {
	l := newLine(t)
	made := func() (handoff.Claim, bool) {
		var a handoff.Attempt
		if err := l.Claim(&a); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(a.Close)
		_, _, inPage := a.Claim().InPage()
		return a.Claim(), inPage
	}
	if _, inPage := made(); inPage {
		t.Error("a claim is in a page that nobody shared")
	}
	fd, err := l.SharePage()
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	var last handoff.Claim
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

// sharedPage is the backend's mapping of the page of claims, until the test ends.
func (l *line) sharedPage(t *testing.T) *claim.Page {
	t.Helper()
	fd, err := l.SharePage()
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	page, err := claim.ReceivePage(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(page.Close)
	return page
}

// TestUnansweredButAcknowledged: an ACK that stands in the page counts, whatever
// made the broker stop to wait.
func TestUnansweredButAcknowledged(t *testing.T) {
	l := newLine(t)
	page := l.sharedPage(t)
	for name, adopts := range map[string]bool{"acknowledged": true, "taken": false} {
		a := l.issue(t)
		word, generation, _ := a.Claim().InPage()
		theirs, err := page.Claim(word, generation)
		if err != nil {
			t.Fatal(err)
		}
		if won, err := theirs.Take(); !won || err != nil {
			t.Fatal(won, err)
		}
		if adopts && !theirs.Acknowledge() || a.Acknowledged() != adopts {
			t.Fatalf("%s: acknowledged %v", name, a.Acknowledged())
		}
		out := a.Unanswered(context.Canceled, at(1))
		if out.Verdict != handoff.Adopted || out.Late == adopts || (out.Err == nil) != adopts {
			t.Errorf("%s: %+v", name, out)
		}
		if a.Acknowledged() != adopts {
			t.Errorf("%s: the end changed what stands in the page", name)
		}
	}
	l.idle(t)
}

// TestAcknowledgedInPage: the table yields those whose ACK stands in the page, while
// they are ended and others issued.
func TestAcknowledgedInPage(t *testing.T) {
	l := newLine(t)
	page := l.sharedPage(t)
	want := make(map[*handoff.Attempt]bool)
	for i := range 10 {
		a := l.issue(t)
		word, generation, _ := a.Claim().InPage()
		theirs, err := page.Claim(word, generation)
		if err != nil {
			t.Fatal(err)
		}
		if won, err := theirs.Take(); !won || err != nil {
			t.Fatal(won, err)
		}
		if i%3 == 0 {
			want[a] = theirs.Acknowledge()
		}
	}
	n := 0
	for a := range l.table.Acknowledged() {
		if n++; !want[a] {
			t.Error("one is not acknowledged, or comes twice")
		}
		delete(want, a)
		if out := a.Acked(at(1)); out.Verdict != handoff.Adopted || out.Err != nil || out.Waited != at(1).Sub(at(0)) {
			t.Errorf("got %+v", out)
		}
		l.issue(t)
	}
	if n != 4 || l.table.Pending() != 10 {
		t.Errorf("%d acknowledged, %d are pending", n, l.table.Pending())
	}
}

//go:build linux && !usher_portable

package claim

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// passed is the page as another broker has it.
func (p *Page) passed(t *testing.T) *Page {
	t.Helper()
	fd, generation, err := p.Pass()
	if err != nil {
		t.Fatal(err)
	}
	next, err := ResumePage(fd, generation)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(next.Close)
	return next
}

// TestPassPage: claims of the second broker can be taken, by either side and once; those of
// the first are over for good, whoever slept through their end.
func TestPassPage(t *testing.T) {
	testutil.Leaks(t)
	broker, backend, _ := sharedPage(t)
	var slept []*Claim
	for range 3 {
		mine, theirs := offered(t, broker, backend)
		slept = append(slept, theirs)
		mine.Close()
	}
	acked, theirs := offered(t, broker, backend)
	checkTake(t, theirs, true)
	acked.Close()
	next := broker.passed(t)
	broker.Close()
	if theirs.Acknowledge() {
		t.Error("an acknowledgement that is late stands in a page of the next broker")
	}
	for round := range 2 {
		for n, late := range slept {
			if round == 1 { // its word is used again
				mine, theirs := offered(t, next, backend)
				defer mine.Close()
				checkTake(t, late, false)
				first, second := mine, theirs
				if n == 1 {
					first, second = second, first
				}
				checkTake(t, first, true)
				checkTake(t, second, false)
			}
			checkTake(t, late, false)
		}
	}
}

// TestPassPageInUse: a page in which a claim is open stays where it is.
func TestPassPageInUse(t *testing.T) {
	testutil.Leaks(t)
	broker, _, _ := sharedPage(t)
	c, err := broker.New()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := broker.Pass(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("passed with an open claim: %v", err)
	}
	c.Close()
	fd, generation, err := broker.Pass()
	if err != nil || generation != 1 {
		t.Fatalf("generation %d, %v", generation, err)
	}
	fd.Close()
	broker.Close()
	if _, _, err := broker.Pass(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("passed when closed: %v", err)
	}
}

// TestResumePageRefuses: what is no page, and a generation that leaves no room.
func TestResumePageRefuses(t *testing.T) {
	testutil.Leaks(t)
	broker, _, _ := sharedPage(t)
	fd, _, err := broker.Pass()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ResumePage(fd, maxGeneration+1); !errors.Is(err, ErrForeign) {
		t.Errorf("got %v", err)
	}
	n, err := unix.MemfdCreate("no page", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ResumePage(sock.Own(n), 1); !errors.Is(err, ErrForeign) {
		t.Errorf("got %v", err)
	}
}

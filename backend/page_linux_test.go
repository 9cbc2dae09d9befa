//go:build linux && !usher_portable

package backend_test

import (
	"errors"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// behindPage is a backend whose broker, the test, shares a page of claims with it.
func behindPage(t testing.TB) (*backend.Listener, session) {
	t.Helper()
	p := newPlace(t)
	wires := takingIn(t, p, claim.NewPage)
	ln := listen(t, p)
	return ln, next(t, wires)
}

// TestAdoptFromPage: the ACK stands in the page, and no message comes. A claim that
// is a descriptor is good on the same channel, and answered by message.
func TestAdoptFromPage(t *testing.T) {
	testutil.Leaks(t)
	ln, w := behindPage(t)
	for id := range uint64(4) {
		if id == 2 {
			w.works(t, ln, id) // whose answer is the first message
			continue
		}
		l := newLoad(t)
		mine, o := w.inPage(t, id)
		w.offer(t, o, l.conn)
		c := accept(t, ln)
		wantBytes(t, l.client, preamble)
		testutil.WaitFor(t, "the ACK is in the page", mine.Acknowledged)
		mine.Close()
		l.drop()
		testutil.CheckConnected(t, l.client, c)
		_ = c.Close()
		wantEnd(t, l.client)
	}
}

// TestLateInPage: a backend that comes too late finds the claim gone, whatever the
// word is used for by then, and leaves the connection unread. One that adopted and
// acknowledges too late says so by message.
func TestLateInPage(t *testing.T) {
	testutil.Leaks(t)
	_, w := behindPage(t)
	for name, late := range map[string]func(mine *claim.Claim){
		"taken back": func(mine *claim.Claim) {
			if won, err := mine.Take(); !won || err != nil {
				t.Fatal(won, err)
			}
		},
		"over": (*claim.Claim).Close,
		"used again": func(mine *claim.Claim) {
			mine.Close()
			again, _ := w.inPage(t, 0)
			t.Cleanup(func() {
				if won, err := again.Take(); !won || err != nil {
					t.Errorf("the next claim: %v, %v", won, err)
				}
			})
		},
	} {
		l := newLoad(t)
		send(t, l.client, "early")
		mine, o := w.inPage(t, 1)
		late(mine)
		w.offer(t, o, l.conn)
		if ack := w.ack(t); ack.Accepted || ack.Reason != claimLost {
			t.Errorf("%s: answer %v", name, ack)
		}
		early := make([]byte, 5)
		if n, _, err := unix.Recvfrom(l.conn, early, unix.MSG_DONTWAIT); n != 5 || err != nil {
			t.Errorf("%s: %d bytes left unread, %v", name, n, err)
		}
		l.drop()
	}
}

// TestHostileInPage: an offer whose claim can't be what it says is refused, and
// nothing of it stays open.
func TestHostileInPage(t *testing.T) {
	testutil.Leaks(t)
	ln, w := behindPage(t)
	for name, c := range map[string]struct {
		change func(*wire.Offer)
		fds    func(l *load) []int
		reason wire.NackReason
	}{
		"no such word":     {func(o *wire.Offer) { o.ClaimWord = claim.Words }, (*load).alone, descriptors},
		"no generation":    {func(o *wire.Offer) { o.ClaimGeneration = 0 }, (*load).alone, descriptors},
		"huge generation":  {func(o *wire.Offer) { o.ClaimGeneration = 1 << 62 }, (*load).alone, descriptors},
		"past generation":  {func(o *wire.Offer) { o.ClaimGeneration-- }, (*load).alone, claimLost},
		"unused word":      {func(o *wire.Offer) { o.ClaimWord = claim.Words - 1 }, (*load).alone, claimLost},
		"no connection":    {func(*wire.Offer) {}, func(*load) []int { return nil }, descriptors},
		"wrong connection": {func(*wire.Offer) {}, func(l *load) []int { return []int{l.claimFD()} }, descriptors},
	} {
		w.inPage(t, 0)
		l := newLoad(t)
		again, _ := w.inPage(t, 0) // so that its word has a past generation
		again.Close()
		_, o := w.inPage(t, 1)
		c.change(o)
		w.offer(t, o, c.fds(l)...)
		if ack := w.ack(t); ack.Accepted || ack.Reason != c.reason || ack.Detail == "" {
			t.Errorf("%s: answer %v, want a NACK, %v", name, ack, c.reason)
		}
		l.drop()
		wantEnd(t, l.client)
	}
	w.works(t, ln, 2)
}

func (l *load) alone() []int { return []int{l.conn} }

// TestClaimBesidePage: a descriptor too many ends the channel, as ever.
func TestClaimBesidePage(t *testing.T) {
	testutil.Leaks(t)
	_, w := behindPage(t)
	l := newLoad(t)
	mine, o := w.inPage(t, 1)
	w.offer(t, o, l.conn, l.claimFD())
	if ack := w.ack(t); ack.Accepted || ack.Reason != descriptors {
		t.Errorf("answer %v", ack)
	}
	if won, err := mine.Take(); !won || err != nil {
		t.Errorf("the claim: %v, %v", won, err)
	}
	if _, err := w.Recv(); err == nil {
		t.Error("the channel goes on")
	}
}

// TestNoPageToName: an offer that names a page is refused where there is none.
func TestNoPageToName(t *testing.T) {
	testutil.Leaks(t)
	ln, w, _ := behindFake(t)
	l := newLoad(t)
	w.offer(t, offer(1, func(o *wire.Offer) { o.ClaimGeneration = 1 }), l.conn)
	if ack := w.ack(t); ack.Accepted || ack.Reason != descriptors || !strings.Contains(ack.Detail, "page") {
		t.Errorf("answer %v", ack)
	}
	l.drop()
	w.works(t, ln, 2)
}

// TestForeignPage: memory that could be taken away is no page, and its broker none.
func TestForeignPage(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	wires := takingIn(t, p, func() (*claim.Page, *sock.FD, error) {
		fd, err := unix.MemfdCreate("unsealed", unix.MFD_CLOEXEC)
		return nil, sock.Own(fd), errors.Join(err, unix.Ftruncate(fd, 4096))
	})
	ln := listen(t, p)
	if _, err := next(t, wires).Recv(); err == nil {
		t.Error("the channel goes on")
	}
	c, err := net.Dial("unix", ln.Addr().String()) // the pipe serves all the same
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	testutil.CheckConnected(t, c, accept(t, ln))
}

package backend_test

import (
	"errors"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// earlyBytes is what the clients here declare and, sooner or later, send.
const earlyBytes = "early"

func declared(o *wire.Offer) { o.EarlyDataLen = uint32(len(earlyBytes)) }

// pending is how many bytes the client could read now.
func pending(t testing.TB, l *load) int {
	t.Helper()
	n, _, err := unix.Recvfrom(testutil.FD(t, l.client), make([]byte, 1000), unix.MSG_DONTWAIT|unix.MSG_PEEK)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		t.Fatal(err)
	}
	return max(n, 0)
}

// adoption is one way to adopt a connection.
type adoption struct {
	name                string
	early, late, inline bool
}

var adoptions = []adoption{
	{name: "no early data"}, {name: "inline", inline: true},
	{name: "early data", early: true}, {name: "early data, inline", early: true, inline: true},
	{name: "late early data", early: true, late: true}, {name: "late early data, inline", early: true, late: true, inline: true},
}

// TestOrderOfAdoption: claim, then an early byte if one is declared, then the ACK, and
// only then the first byte to the client; whether the claim is in the page or not.
func TestOrderOfAdoption(t *testing.T) {
	for _, a := range adoptions {
		for _, inPage := range []bool{true, false} {
			name := a.name
			if !inPage {
				name += ", claim of its own"
			}
			t.Run(name, func(t *testing.T) {
				if inPage {
					testutil.Needs(t, "pages of claims")
				}
				testutil.Leaks(t)
				a.run(t, inPage)
			})
		}
	}
}

func (a adoption) run(t *testing.T, inPage bool) {
	backend.SetReplyTimeout(t, patience)
	p := newPlace(t)
	wires := takingIn(t, p, claim.NewPage)
	ln := listen(t, p, func(o *backend.Options) {
		if a.inline {
			o.Inline = func(answer, _ []byte) ([]byte, bool) { return append(answer, "answer"...), true }
		}
	})
	w := next(t, wires)
	l := newLoad(t)
	mine, o := l.claim, offer(1)
	fds := []int{l.conn, l.claimFD()}
	if inPage {
		mine, o = w.inPage(t, 1)
		fds = fds[:1]
	}
	if a.early {
		declared(o)
	}
	acked := func() bool {
		if inPage {
			return mine.Acknowledged()
		}
		fds := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}
		n, _ := unix.Poll(fds, 0)
		return n > 0
	}
	var mu sync.Mutex
	var passed []failpoint.Point
	over := false
	failpoint.Set(func(at failpoint.Point) {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return
		}
		passed = append(passed, at)
		if at != failpoint.BackendReplied && pending(t, l) > 0 {
			t.Errorf("at %s the client can read something", at)
		}
		if done := at == failpoint.BackendAcked || at == failpoint.BackendReplied; acked() != done {
			t.Errorf("at %s acknowledged: %t", at, !done)
		}
	})
	t.Cleanup(func() {
		failpoint.Set(nil)
		mu.Lock()
		defer mu.Unlock()
		over = true
	})
	if a.early && !a.late {
		send(t, l.client, earlyBytes)
	}
	w.offer(t, o, fds...)
	if a.late {
		// The next message is handled behind this one.
		w.offer(t, offer(2, func(o *wire.Offer) { o.Token = nil }), fds...)
		testutil.WaitFor(t, "the next message is received", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(passed) > 0 && passed[len(passed)-1] == failpoint.BackendReceived && len(passed) > 2
		})
		_ = w.ack(t)
		send(t, l.client, earlyBytes)
	}
	want := preamble
	if !a.early {
		wantBytes(t, l.client, preamble)
		want = ""
		send(t, l.client, earlyBytes)
	}
	if a.inline {
		wantBytes(t, l.client, want+"answer")
	} else {
		c := accept(t, ln)
		send(t, c, "answer")
		wantBytes(t, l.client, want+"answer")
		wantBytes(t, c, earlyBytes)
	}
	if !acked() {
		t.Error("never acknowledged")
	}
	l.drop()
}

// TestAckOutlivesTheChannel: a connection that waits for its early bytes when the
// channel ends is acknowledged in the page when they come, and served.
func TestAckOutlivesTheChannel(t *testing.T) {
	testutil.Needs(t, "pages of claims")
	testutil.Leaks(t)
	backend.SetReplyTimeout(t, patience)
	p := newPlace(t)
	wires := takingIn(t, p, claim.NewPage)
	ln := listen(t, p)
	w := next(t, wires)
	paged, alone := newLoad(t), newLoad(t)
	mine, o := w.inPage(t, 1)
	declared(o)
	w.offer(t, o, paged.conn)
	w.offer(t, offer(2, declared), alone.conn, alone.claimFD())
	w.works(t, ln, 3)
	_ = w.Close()
	next(t, wires) // the backend has left the first channel behind
	for _, l := range []*load{paged, alone} {
		l.drop()
		send(t, l.client, earlyBytes)
		c := accept(t, ln)
		wantBytes(t, c, earlyBytes)
		wantBytes(t, l.client, preamble)
		_ = c.Close()
	}
	if !mine.Acknowledged() {
		t.Error("no ACK in the page")
	}
}

// TestPromisedAndNotSent: a client that declares early data and sends none gets no
// answer, and holds nothing for long.
func TestPromisedAndNotSent(t *testing.T) {
	testutil.Leaks(t)
	ln, w, _ := behindFake(t, func(o *backend.Options) { o.Backlog = 1 })
	l := newLoad(t)
	w.offer(t, offer(1, declared), l.conn, l.claimFD())
	w.works(t, ln, 2) // it takes no place meanwhile
	l.drop()
	wantEnd(t, l.client)
	if ack := w.ack(t); !ack.Accepted || ack.HandoffId != 1 {
		t.Errorf("answer %v", ack)
	}
	w.works(t, ln, 3)
}

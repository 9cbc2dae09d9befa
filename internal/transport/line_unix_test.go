//go:build unix

package transport

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// at is a time after the tests' epoch, in milliseconds.
func at(ms int) time.Time {
	return time.Unix(1_700_000_000, 0).Add(time.Duration(ms) * time.Millisecond)
}

// line is a channel under test: the broker's end, and the backend's end in the test's
// hands.
type line struct {
	*Channel
	backend *sock.Channel
	near    *net.UnixConn // the client's end of the connection
	conn    *sock.Conn    // the broker's
}

func newLine(t *testing.T) *line {
	t.Helper()
	testutil.Leaks(t)
	return lineOn(t, handoff.NewTable(handoff.DefaultConfig()))
}

// lineOn is one of several channels with one table.
func lineOn(t *testing.T, table *handoff.Table) *line {
	t.Helper()
	near, end, err := sock.Pair()
	if err != nil {
		t.Fatal(err)
	}
	far := sock.NewChannel(end)
	pair := testutil.FDPair(t, unix.SOCK_STREAM)
	client, conn := testutil.Conn(t, pair[0]), sock.NewConn(sock.Own(pair[1]))
	l := &line{newChannel(near, table), far, client, conn}
	t.Cleanup(func() {
		for _, a := range l.Retire() {
			a.Close()
		}
		_ = far.Close()
		_ = conn.Close()
	})
	return l
}

// issue makes an attempt that can be sent.
func (l *line) issue(t *testing.T) *handoff.Attempt {
	t.Helper()
	a := new(handoff.Attempt)
	if err := l.table.Issue(a, handoff.DefaultAckDeadline, at(0)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	if err := l.Claim(a); err != nil {
		t.Fatal(err)
	}
	return a
}

// offer issues an attempt and sends it.
func (l *line) offer(t *testing.T) *handoff.Attempt {
	t.Helper()
	a := l.issue(t)
	if err := l.Send(a, handoff.Offer{}, l.conn); err != nil {
		t.Fatal(err)
	}
	return a
}

// receive is the backend taking the next offer.
func (l *line) receive(t *testing.T) *wire.Offer {
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
	offer, err := frame.ParseChannelOffer(f)
	if err != nil || m.FDs.Len() != 2 || m.Fault != nil {
		t.Fatalf("%v, %d descriptors, %v", err, m.FDs.Len(), m.Fault)
	}
	return offer
}

func (l *line) answer(t *testing.T, ack *wire.Ack, fds ...sock.Lender) {
	t.Helper()
	msg, err := frame.Append(nil, frame.ChannelAck(ack))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.backend.Send(msg, fds...); err != nil {
		t.Fatal(err)
	}
}

func accept(o *wire.Offer) *wire.Ack {
	return &wire.Ack{Token: o.Token, HandoffId: o.HandoffId, Accepted: true}
}

// wantAnswer reads the next answer, which is for a, and ends a with it.
func (l *line) wantAnswer(t *testing.T, a *handoff.Attempt, want handoff.Ack) {
	t.Helper()
	whose, got, err := l.Next()
	if err != nil || whose != a || string(got.Token) != string(want.Token) || got.Accepted != want.Accepted || got.Detail != want.Detail {
		t.Errorf("got %+v, %v; want %+v; for the attempt %v", got, err, want, whose == a)
		return
	}
	a.Answered(got, at(1))
}

// wantNobody reads the next answer, which nobody waits for.
func (l *line) wantNobody(t *testing.T) {
	t.Helper()
	if a, ack, err := l.Next(); a != nil || err != nil {
		t.Errorf("got %+v, %v; for an attempt %v", ack, err, a != nil)
	}
}

// idle fails the test when an attempt is pending.
func (l *line) idle(t *testing.T) {
	t.Helper()
	if n := l.table.Pending(); n != 0 {
		t.Errorf("%d attempts are pending", n)
	}
}

func sendClassOf(t *testing.T, err error) handoff.SendClass {
	t.Helper()
	var send *handoff.SendError
	if !errors.As(err, &send) || send.Stage != handoff.StageSend {
		t.Fatalf("got %v", err)
	}
	return send.Class
}

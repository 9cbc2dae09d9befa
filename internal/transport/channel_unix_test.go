//go:build unix

package transport

import (
	"errors"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

func TestOfferTravelsWhole(t *testing.T) {
	l := newLine(t)
	a := l.issue(t)
	err := l.Send(a, handoff.Offer{
		Service: "svc", ConnectionID: 7, Preamble: []byte("first"), EarlyDataLen: 9, Traceparent: "p", Tracestate: "s",
	}, l.conn)
	if err != nil {
		t.Fatal(err)
	}
	m, err := l.backend.Recv()
	if err != nil || m.FDs.Len() != 2 {
		t.Fatal(m.FDs.Len(), err)
	}
	f, _ := m.Frame()
	o, err := frame.ParseChannelOffer(f)
	if err != nil {
		t.Fatal(err)
	}
	if !a.Token().Equal(o.Token) || o.HandoffId != a.Number() || o.ConnectionId != 7 || string(o.Preamble) != "first" ||
		o.EarlyDataLen != 9 || o.Traceparent != "p" || o.Tracestate != "s" {
		t.Errorf("the offer became %v", o)
	}
	c, err := claim.Receive(m.FDs.Take(1))
	if err != nil {
		t.Fatal(err)
	}
	if won, err := c.Take(); !won || err != nil {
		t.Errorf("the claim that came is not the offer's: %v, %v", won, err)
	}
	c.Close()
	if won, err := a.Claim().Take(); won || err != nil {
		t.Errorf("the claim was taken twice: %v, %v", won, err)
	}
	conn := m.FDs.TakeConn(0)
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Error(err)
	}
	_ = conn.Close()
	hello := make([]byte, 5)
	if _, err := l.near.Read(hello); err != nil || string(hello) != "hello" {
		t.Errorf("the connection that came is not the client's: %q, %v", hello, err)
	}
}

func TestAnswers(t *testing.T) {
	l := newLine(t)
	l.wantNobody(t) // nothing to read
	first, second, third := l.offer(t), l.offer(t), l.offer(t)
	o1, o2, o3 := l.receive(t), l.receive(t), l.receive(t)
	l.answer(t, accept(o2)) // in any order
	l.answer(t, &wire.Ack{Token: o1.Token, HandoffId: o1.HandoffId, Reason: wire.NackReason_NACK_REASON_BUSY, Detail: "full"})
	l.answer(t, &wire.Ack{HandoffId: o3.HandoffId, Reason: wire.NackReason_NACK_REASON_DESCRIPTORS}) // echoes no token
	l.wantAnswer(t, second, handoff.Ack{Token: o2.Token, Accepted: true})
	l.wantAnswer(t, first, handoff.Ack{Token: o1.Token, Detail: "NACK_REASON_BUSY: full"})
	l.wantAnswer(t, third, handoff.Ack{Detail: "NACK_REASON_DESCRIPTORS: "})
	l.idle(t)
	if l.Strays() != (Strays{}) {
		t.Errorf("%+v", l.Strays())
	}
}

// TestStrays: an answer that nobody waits for is counted by what it is, whatever it
// says, and the channel goes on.
func TestStrays(t *testing.T) {
	l := newLine(t)
	stray := func(ack *wire.Ack, want Strays) {
		t.Helper()
		l.answer(t, ack)
		if l.wantNobody(t); l.Strays() != want {
			t.Errorf("%+v, want %+v", l.Strays(), want)
		}
	}
	late := l.offer(t)
	o := l.receive(t)
	late.Unanswered(handoff.ErrNoAck, late.Deadline())
	stray(accept(o), Strays{Late: 1})
	stray(accept(o), Strays{Late: 2})
	stray(&wire.Ack{Token: make([]byte, handoff.TokenSize), HandoffId: o.HandoffId, Accepted: true}, Strays{Late: 3})
	stray(&wire.Ack{Token: make([]byte, handoff.TokenSize), HandoffId: 999999, Accepted: true}, Strays{Late: 3, Unknown: 1})
	stray(&wire.Ack{}, Strays{Late: 3, Unknown: 2}) // a NACK for an offer that could not be read

	twice := l.offer(t)
	o2 := l.receive(t)
	l.answer(t, accept(o2))
	l.wantAnswer(t, twice, handoff.Ack{Token: o2.Token, Accepted: true})
	stray(accept(o2), Strays{Late: 3, Repeated: 1, Unknown: 2})
	stray(accept(o), Strays{Late: 4, Repeated: 1, Unknown: 2}) // its slot is used anew

	last := l.offer(t)
	o = l.receive(t)
	l.answer(t, accept(o))
	l.wantAnswer(t, last, handoff.Ack{Token: o.Token, Accepted: true})
	if l.Strays().Total() != 7 {
		t.Errorf("%d strays", l.Strays().Total())
	}
	l.idle(t)
}

// TestUnknownMessages: what the backend says beside answers is counted, and ignored
// with its descriptors; the channel goes on.
func TestUnknownMessages(t *testing.T) {
	l := newLine(t)
	a := l.offer(t)
	o := l.receive(t)
	for n, f := range []*wire.Frame{
		frame.Event(frame.Channel, 1, nil),
		frame.Request(frame.Channel, o.HandoffId, []byte{0xff}),
		frame.Request(0xF0AB, 0, nil),
		{EnvelopeVersion: 1, Kind: 99, PayloadProtocol: 0xF0AB, PayloadEncoding: 9},
	} {
		msg, err := frame.Append(nil, f)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.backend.Send(msg, []sock.Lender{l.conn, l.conn, l.conn}[:n]...); err != nil {
			t.Fatal(err)
		}
		before := testutil.OpenDescriptors(t)
		if l.wantNobody(t); l.UnknownMessages() != uint64(n+1) {
			t.Errorf("%d are counted after %d", l.UnknownMessages(), n+1)
		}
		if after := testutil.OpenDescriptors(t); after != before {
			t.Errorf("%d descriptors were open before, %d after", before, after)
		}
	}
	l.answer(t, accept(o))
	l.wantAnswer(t, a, handoff.Ack{Token: o.Token, Accepted: true})
	if l.Strays() != (Strays{}) {
		t.Errorf("%+v", l.Strays())
	}
}

// TestAnswerOnAnotherChannel: a backend that names another backend's handoff, with its
// very token, has named nothing.
func TestAnswerOnAnotherChannel(t *testing.T) {
	mine := newLine(t)
	other := lineOn(t, mine.table)
	a := mine.offer(t)
	o := mine.receive(t)
	for _, ack := range []*wire.Ack{accept(o), {HandoffId: o.HandoffId}, {HandoffId: o.HandoffId, Token: make([]byte, handoff.TokenSize)}} {
		other.answer(t, ack)
		other.wantNobody(t)
	}
	if other.Strays() != (Strays{Unknown: 3}) || mine.Strays() != (Strays{}) {
		t.Errorf("%+v and %+v", other.Strays(), mine.Strays())
	}
	if gone := other.Retire(); len(gone) != 0 {
		t.Errorf("%d attempts of another channel end with this one", len(gone))
	}
	mine.answer(t, accept(o))
	mine.wantAnswer(t, a, handoff.Ack{Token: o.Token, Accepted: true})
}

// TestFullChannel: a backend that does not read, say because it is stopped, is
// a failure at once. Nothing was sent then, and what was sent before stands.
func TestFullChannel(t *testing.T) {
	l := newLine(t)
	for {
		a := l.issue(t)
		err := l.Send(a, handoff.Offer{}, l.conn)
		if err == nil {
			continue
		}
		var send *handoff.SendError
		if !errors.As(err, &send) || send.Class != handoff.SendWouldBlock || send.Reached() || !errors.Is(err, syscall.EAGAIN) {
			t.Errorf("got %v", err)
		}
		before := l.table.Pending()
		if out := a.SendFailed(err); out.Verdict != handoff.NotTaken || out.FDReachedBackend || l.table.Pending() != before-1 {
			t.Errorf("got %+v, %d of %d are pending", out, l.table.Pending(), before)
		}
		return
	}
}

func TestUnsendableOffers(t *testing.T) {
	l := newLine(t)
	err := l.Send(l.issue(t), handoff.Offer{Tracestate: string(make([]byte, sock.MaxMessage))}, l.conn)
	if sendClassOf(t, err) != handoff.SendTooLarge || !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("too long: %v", err)
	}
	if err := l.Send(l.issue(t), handoff.Offer{}, sock.Own(-1)); sendClassOf(t, err) != handoff.SendFailed {
		t.Errorf("no connection: %v", err)
	}
	good := l.offer(t)
	o := l.receive(t)
	l.answer(t, accept(o))
	l.wantAnswer(t, good, handoff.Ack{Token: o.Token, Accepted: true})
}

func TestNewChannel(t *testing.T) {
	testutil.Leaks(t)
	c, far, err := NewChannel(handoff.NewTable(handoff.DefaultConfig()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Retire()
	defer far.Close()
	want := unix.SOCK_SEQPACKET
	if sock.ChannelKind == wire.ChannelKind_CHANNEL_KIND_STREAM {
		want = unix.SOCK_STREAM
	}
	sotype, err := unix.GetsockoptInt(sock.Number(far), unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || sotype != want {
		t.Errorf("type %d, %v", sotype, err)
	}
}

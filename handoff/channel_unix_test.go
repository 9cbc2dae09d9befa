//go:build unix

package handoff

import (
	"context"
	"errors"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/channel"
	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

func TestOfferTravelsWhole(t *testing.T) {
	onBothKinds(t, func(t *testing.T, l *line) {
		d, err := l.Send(t.Context(), Offer{
			Token: Token{1, 2, 3}, Service: "svc", ConnectionID: 7, Preamble: []byte("first"),
			EarlyDataLen: 9, Traceparent: "p", Tracestate: "s", Claim: l.claim,
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
		if !(Token{1, 2, 3}).Equal(o.Token) || o.ConnectionId != 7 || string(o.Preamble) != "first" ||
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
		if won, err := l.claim.Take(); won || err != nil {
			t.Errorf("the claim was taken twice: %v, %v", won, err)
		}
		if _, err := unix.Write(m.FDs.Borrow(0), []byte("hello")); err != nil {
			t.Error(err)
		}
		m.FDs.Close()
		hello := make([]byte, 5)
		if _, err := l.near.Read(hello); err != nil || string(hello) != "hello" {
			t.Errorf("the connection that came is not the client's: %q, %v", hello, err)
		}
		d.Close()
		l.idle(t)
	})
}

func TestAnswers(t *testing.T) {
	onBothKinds(t, func(t *testing.T, l *line) {
		first, second, third := l.offer(t, 1), l.offer(t, 2), l.offer(t, 3)
		o1, o2, o3 := l.receive(t), l.receive(t), l.receive(t)
		l.answer(t, accept(o2)) // in any order
		l.answer(t, &wire.Ack{Token: o1.Token, HandoffId: o1.HandoffId, Reason: wire.NackReason_NACK_REASON_BUSY, Detail: "full"})
		l.answer(t, &wire.Ack{HandoffId: o3.HandoffId, Reason: wire.NackReason_NACK_REASON_DESCRIPTORS}) // echoes no token
		wantAnswer(t, first, Ack{Token: o1.Token, Detail: "NACK_REASON_BUSY: full"})
		wantAnswer(t, second, Ack{Token: o2.Token, Accepted: true})
		wantAnswer(t, third, Ack{Detail: "NACK_REASON_DESCRIPTORS: "})
		l.idle(t)
		if l.Strays() != 0 {
			t.Errorf("%d strays", l.Strays())
		}
	})
}

// TestStrays: an answer that nobody waits for is counted, whatever it says, and
// the channel goes on.
func TestStrays(t *testing.T) {
	onBothKinds(t, func(t *testing.T, l *line) {
		late := l.offer(t, 1)
		o := l.receive(t)
		late.Close() // the deadline has passed
		l.answer(t, accept(o))
		l.answer(t, accept(o)) // and again
		l.answer(t, &wire.Ack{Token: make([]byte, TokenSize), HandoffId: 999, Accepted: true})
		l.answer(t, &wire.Ack{}) // a NACK for an offer that could not be read

		twice := l.offer(t, 2)
		o = l.receive(t)
		l.answer(t, accept(o))
		l.answer(t, accept(o))
		wantAnswer(t, twice, Ack{Token: o.Token, Accepted: true})

		last := l.offer(t, 3)
		o = l.receive(t)
		l.answer(t, accept(o))
		wantAnswer(t, last, Ack{Token: o.Token, Accepted: true})
		if l.Strays() != 5 {
			t.Errorf("%d strays, want 5", l.Strays())
		}
		l.idle(t)
	})
}

// TestFullChannel: a backend that does not read, say because it is stopped, is
// a failure at once. Nothing was sent then, and what was sent before stands.
func TestFullChannel(t *testing.T) {
	onBothKinds(t, func(t *testing.T, l *line) {
		sent := 0
		var err error
		for ; err == nil; sent++ {
			_, err = l.Send(t.Context(), Offer{Token: Token{1}, Claim: l.claim}, l.conn)
		}
		var send *SendError
		if !errors.As(err, &send) || send.Class != SendWouldBlock || send.Reached() || !errors.Is(err, syscall.EAGAIN) {
			t.Errorf("after %d offers: %v", sent, err)
		}
		l.mu.Lock()
		waiting := len(l.waiting)
		l.mu.Unlock()
		if waiting != sent-1 {
			t.Errorf("%d deliveries wait for %d offers", waiting, sent-1)
		}
	})
}

func TestAwaitAckEndsWithItsContext(t *testing.T) {
	onBothKinds(t, func(t *testing.T, l *line) {
		d := l.offer(t, 1)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := d.AwaitAck(ended); err != context.Canceled {
			t.Errorf("got %v", err)
		}
		// An answer that has come counts, however late it is asked for.
		o := l.receive(t)
		l.answer(t, accept(o))
		testutil.WaitFor(t, "the answer is in", func() bool { return len(d.answer) == 1 })
		if ack, err := d.AwaitAck(ended); err != nil || !ack.Accepted {
			t.Errorf("got %+v, %v", ack, err)
		}
		d.Close()
		l.idle(t)
	})
}

func TestUnsendableOffers(t *testing.T) {
	onBothKinds(t, func(t *testing.T, l *line) {
		_, err := l.Send(t.Context(), Offer{Claim: l.claim, Tracestate: string(make([]byte, channel.MaxMessage))}, l.conn)
		if sendClassOf(t, err) != SendTooLarge || !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("too long: %v", err)
		}
		closed, _ := testutil.SocketPair(t)
		_ = closed.Close()
		raw := testutil.Raw(t, closed)
		if _, err = l.Send(t.Context(), Offer{Claim: l.claim}, raw); sendClassOf(t, err) != SendFailed {
			t.Errorf("a closed connection: %v", err)
		}
		good := l.offer(t, 1)
		o := l.receive(t)
		l.answer(t, accept(o))
		wantAnswer(t, good, Ack{Token: o.Token, Accepted: true})
	})
}

// TestPartialSend: a stream channel that tore a message can't be used again, and
// its descriptors may have arrived.
func TestPartialSend(t *testing.T) {
	testutil.Leaks(t)
	fds := testutil.FDPair(t, unix.SOCK_STREAM)
	if err := unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_SNDBUF, 1); err != nil {
		t.Fatal(err)
	}
	near := channel.New(fds[0], channel.Stream)
	defer func() { _ = unix.Close(fds[1]) }()
	l := newLine(t, unix.SOCK_STREAM)
	c := newChannel(near)
	served := make(chan error)
	go func() { served <- c.Serve() }()
	var err error
	for err == nil {
		_, err = c.Send(t.Context(), Offer{Claim: l.claim, Preamble: make([]byte, channel.MaxMessage/2)}, l.conn)
	}
	var send *SendError
	if !errors.As(err, &send) || send.Class != SendPartial || send.Sent <= 0 || !send.Reached() {
		t.Errorf("got %v", err)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	<-c.Done()
}

func TestNewChannel(t *testing.T) {
	testutil.Leaks(t)
	c, far, err := NewChannel()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Retire()
	defer func() { _ = unix.Close(far) }()
	sotype, err := unix.GetsockoptInt(far, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || (sotype == unix.SOCK_STREAM) != c.Stream() || !c.Claims() {
		t.Errorf("type %d, %v; stream %v, claims %v", sotype, err, c.Stream(), c.Claims())
	}
}

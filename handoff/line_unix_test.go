//go:build unix

package handoff

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/channel"
	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// line is a channel under test: the broker's end, which serves, and the
// backend's end in the test's hands.
type line struct {
	*Channel
	backend *channel.Conn
	served  chan error // what Serve returned
	claim   *claim.Claim
	near    *net.UnixConn   // the client's end of the connection
	conn    syscall.RawConn // the broker's
}

func onBothKinds(t *testing.T, test func(t *testing.T, l *line)) {
	for name, sotype := range map[string]int{"seqpacket": unix.SOCK_SEQPACKET, "stream": unix.SOCK_STREAM} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			l := newLine(t, sotype)
			l.serve(t)
			test(t, l)
		})
	}
}

func newLine(t *testing.T, sotype int) *line {
	t.Helper()
	kind := channel.Seqpacket
	if sotype == unix.SOCK_STREAM {
		kind = channel.Stream
	}
	fds := testutil.FDPair(t, sotype)
	near, far := channel.New(fds[0], kind), channel.New(fds[1], kind)
	c, err := claim.New()
	if err != nil {
		t.Fatal(err)
	}
	client, conn := testutil.SocketPair(t)
	l := &line{newChannel(near), far, make(chan error, 1), c, client, testutil.Raw(t, conn)}
	t.Cleanup(func() {
		l.Retire()
		_ = far.Close()
		c.Close()
	})
	return l
}

func (l *line) serve(t *testing.T) {
	t.Helper()
	served := make(chan struct{})
	go func() { defer close(served); l.served <- l.Serve() }()
	t.Cleanup(func() { l.Close(); <-served })
}

// offer sends one offer whose token begins with the byte of its name.
func (l *line) offer(t *testing.T, name byte) *channelDelivery {
	t.Helper()
	d, err := l.Send(t.Context(), Offer{Token: Token{name}, Claim: l.claim}, l.conn)
	if err != nil {
		t.Fatal(err)
	}
	return d.(*channelDelivery)
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

func (l *line) answer(t *testing.T, ack *wire.Ack, fds ...int) {
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

// wantAnswer awaits d's answer.
func wantAnswer(t *testing.T, d *channelDelivery, want Ack) {
	t.Helper()
	got, err := d.AwaitAck(t.Context())
	if err != nil || string(got.Token) != string(want.Token) || got.Accepted != want.Accepted || got.Detail != want.Detail {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	d.Close()
}

// idle fails the test when the channel still waits for an answer.
func (l *line) idle(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) != 0 {
		t.Errorf("%d deliveries still wait", len(l.waiting))
	}
}

func sendClassOf(t *testing.T, err error) SendClass {
	t.Helper()
	var send *SendError
	if !errors.As(err, &send) || send.Stage != StageSend {
		t.Fatalf("got %v", err)
	}
	return send.Class
}

package broker_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wire"
)

// fake is a backend that registered by hand and behaves as its test says.
type fake struct {
	tb   testing.TB
	ch   *sock.Channel
	pipe string
}

// fake registers a fake backend for demo in this process.
func (s *site) fake(version string) *fake {
	s.tb.Helper()
	pipe := s.pipe("fake-" + version)
	answer, ch, err := register(s.Socket(), &wire.Register{ServiceName: demo, ServiceVersion: version, BackendPipe: pipe})
	if err != nil || !answer.Accepted {
		s.tb.Fatalf("registration: %v, %v", answer, err)
	}
	s.later = append(s.later, func() { _ = ch.Close() })
	return &fake{tb: s.tb, ch: ch, pipe: pipe}
}

// pipe listens on a socket of its own, so that a backend can name it.
func (s *site) pipe(name string) string {
	s.tb.Helper()
	path := filepath.Join(s.dir, name)
	if _, err := os.Lstat(path); err == nil {
		return path
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(func() { _ = l.Close() })
	return path
}

// register makes the exchange of a registration. The channel is nil when it was
// refused.
func register(socket string, r *wire.Register) (*wire.Registered, *sock.Channel, error) {
	answer, fds, err := registration(socket, r)
	defer fds.Close()
	want := 0
	if answer != nil && answer.Accepted {
		want = 1
	}
	if err == nil {
		err = wrongCount(fds, want)
	}
	if err != nil || want == 0 {
		return answer, nil, err
	}
	return answer, sock.NewChannel(fds.Take(0)), nil
}

// registration makes the exchange, and returns what came with the answer.
func registration(socket string, r *wire.Register) (answer *wire.Registered, fds sock.Descriptors, err error) {
	c, err := sock.Dial(socket)
	if err != nil {
		return nil, fds, err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := frame.Write(c, frame.RegisterRequest(r)); err != nil {
		return nil, fds, err
	}
	msg, err := sock.ReceiveFramed(c)
	if err != nil {
		return nil, fds, err
	}
	f, err := msg.Frame()
	if err == nil {
		answer, err = frame.ParseRegistered(f)
	}
	return answer, msg.FDs.Move(), err
}

func wrongCount(fds sock.Descriptors, want int) error {
	if n := fds.Len(); n != want {
		return fmt.Errorf("%d descriptors came, not %d", n, want)
	}
	return nil
}

// offered is one offer as a fake received it. It owns connection and claim.
type offered struct {
	*wire.Offer
	fds   sock.Descriptors
	claim *claim.Claim // once it was asked for
}

// receive waits for the next offer. Its descriptors are closed at the test's end
// at the latest.
func (f *fake) receive() *offered {
	f.tb.Helper()
	o, err := receiveOffer(f.ch)
	if err != nil {
		f.tb.Fatal(err)
	}
	f.tb.Cleanup(o.fds.Close)
	return o
}

func receiveOffer(ch *sock.Channel) (*offered, error) {
	if err := ch.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	msg, err := ch.Recv()
	if err != nil {
		return nil, err
	}
	o := &offered{fds: msg.FDs.Move()}
	f, err := msg.Frame()
	if err == nil {
		o.Offer, err = frame.ParseChannelOffer(f)
	}
	if err == nil {
		want := 2
		if o.ClaimGeneration != 0 {
			want = 1
		}
		err = wrongCount(msg.FDs, want)
	}
	if err != nil {
		o.fds.Close()
		return nil, err
	}
	return o, nil
}

// ack answers an offer; change makes it a wrong answer.
func (f *fake) ack(o *offered, change func(*wire.Ack)) {
	f.tb.Helper()
	if err := sendAck(f.ch, o, change); err != nil {
		f.tb.Fatal(err)
	}
}

func sendAck(ch *sock.Channel, o *offered, change func(*wire.Ack)) error {
	ack := &wire.Ack{Token: bytes.Clone(o.Token), HandoffId: o.HandoffId, Accepted: true}
	if change != nil {
		change(ack)
	}
	msg, err := frame.Append(nil, frame.ChannelAck(ack))
	if err != nil {
		return err
	}
	return ch.Send(msg)
}

// nack closes what came and refuses the offer.
func (f *fake) nack(o *offered) {
	f.tb.Helper()
	o.fds.Close()
	f.ack(o, asNack)
}

func asNack(a *wire.Ack) {
	a.Accepted, a.Reason, a.Detail = false, wire.NackReason_NACK_REASON_BUSY, "test"
}

// take tries to take the claim.
func (f *fake) take(o *offered) bool {
	f.tb.Helper()
	if o.claim == nil {
		c, err := claim.Receive(o.fds.Take(1))
		if err != nil {
			f.tb.Fatal(err)
		}
		f.tb.Cleanup(c.Close)
		o.claim = c
	}
	won, err := o.claim.Take()
	if err != nil {
		f.tb.Fatal(err)
	}
	return won
}

// adopt takes the claim, writes the preamble and returns the connection.
func (f *fake) adopt(o *offered) net.Conn {
	f.tb.Helper()
	if !f.take(o) {
		f.tb.Fatal("the claim is gone")
	}
	c := fileConn(f.tb, o.fds.Take(0))
	send(f.tb, c, o.Preamble)
	return c
}

// ended waits until the broker has closed the channel, whatever comes before.
func (f *fake) ended() {
	f.tb.Helper()
	_ = f.ch.SetDeadline(time.Now().Add(patience))
	for {
		msg, err := f.ch.Recv()
		if err == nil {
			msg.FDs.Close()
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			f.tb.Fatal("the channel stays open")
		}
		return
	}
}

// leave answers an offer like a backend whose listener is closing.
func (f *fake) leave(o *offered) {
	f.tb.Helper()
	o.fds.Close()
	f.ack(o, func(a *wire.Ack) { asNack(a); a.Reason = wire.NackReason_NACK_REASON_CLOSING })
}

//go:build unix

package handoff_test

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/claim"
)

// flight is what a fake backend sees of one attempt, and its means to answer.
type flight struct {
	ctx    context.Context
	offer  handoff.Offer
	tokens *handoff.Tokens
	acks   *handoff.Acks
	cancel context.CancelFunc // of the attempt
}

func (f *flight) ack() (handoff.Ack, error) {
	return handoff.Ack{Token: f.offer.Token[:], Accepted: true}, nil
}

func (f *flight) nack() (handoff.Ack, error) {
	return handoff.Ack{Token: f.offer.Token[:], Detail: "busy"}, nil
}

func (f *flight) silence() (handoff.Ack, error) {
	<-f.ctx.Done()
	return handoff.Ack{}, f.ctx.Err()
}

// take is a backend that adopts, before whatever it does then.
func take(then func(*flight) (handoff.Ack, error)) func(*flight) (handoff.Ack, error) {
	return func(f *flight) (handoff.Ack, error) {
		if won, err := f.offer.Claim.Take(); !won || err != nil {
			return handoff.Ack{}, fmt.Errorf("backend took %v, %w", won, err)
		}
		return then(f)
	}
}

// gone is a backend that ends without an answer.
func gone(*flight) (handoff.Ack, error) { return handoff.Ack{}, handoff.ErrBackendGone }

// forge is a backend that accepts with a token that is not the offer's.
func forge(*flight) (handoff.Ack, error) {
	return handoff.Ack{Token: make([]byte, handoff.TokenSize), Accepted: true}, nil
}

// swept is a backend whose ACK comes right after the sweep of overdue handoffs.
func swept(f *flight) (handoff.Ack, error) {
	f.acks.ExpireOverdue(time.Now().Add(time.Hour))
	return f.ack()
}

// cancelled is a backend that is still silent when the caller gives up.
func cancelled(f *flight) (handoff.Ack, error) {
	time.Sleep(time.Second)
	f.cancel()
	return f.silence()
}

// fakeTransport sends to a backend that is a function.
type fakeTransport struct {
	claims  bool
	fail    error // what Send answers
	backend func(*flight) (handoff.Ack, error)
	flight  *flight
	sent    int
	open    int // deliveries not closed
}

func (f *fakeTransport) Claims() bool { return f.claims }

func (f *fakeTransport) Send(_ context.Context, offer handoff.Offer, _ syscall.RawConn) (handoff.Delivery, error) {
	f.sent++
	f.flight.offer = offer
	if f.fail != nil {
		if f.backend != nil { // enough has reached it
			_, _ = f.backend(f.flight)
		}
		return nil, f.fail
	}
	f.open++
	return f, nil
}

func (f *fakeTransport) AwaitAck(ctx context.Context) (handoff.Ack, error) {
	f.flight.ctx = ctx
	return f.backend(f.flight)
}

func (f *fakeTransport) Close() { f.open-- }

// corruptClaim holds a value that decides nothing.
func corruptClaim() (*handoff.Claim, error) {
	var p [2]int
	if err := unix.Pipe(p[:]); err != nil {
		return nil, err
	}
	_, err := unix.Write(p[1], []byte("?"))
	_ = unix.Close(p[1])
	if err := errors.Join(err, unix.SetNonblock(p[0], true)); err != nil {
		return nil, err
	}
	return claim.Receive(p[0])
}

func partial(stage handoff.Stage) error {
	err := handoff.PartialSend(3)
	err.Stage = stage
	return err
}

func sendError(stage handoff.Stage, class handoff.SendClass, sent int) error {
	return &handoff.SendError{Stage: stage, Class: class, Sent: sent, Err: syscall.EPIPE}
}

var errPlain = errors.New("not a SendError")

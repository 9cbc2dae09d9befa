package broker

import (
	"context"
	"errors"
	"time"

	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wait"
	"github.com/seed-7265657e/usher/internal/wire"
)

// This file is what a broker and the one that takes its place say to each other
// (docs/protocol.md, section "Upgrade").

// handoverFormat is what the first message says. A successor that does not know it says so,
// and this broker stays. What is added within a format goes to a successor alone that has
// said, in READY, that it knows it.
const handoverFormat = 1

func sendHandover(ch *sock.Channel, h *wire.Handover, with ...sock.Lender) error {
	msg, err := frame.Append(nil, frame.HandoverEvent(h))
	if err != nil {
		return err
	}
	return ch.Send(msg, with...)
}

// sendPatiently is sendHandover to one that may not have taken what was sent before. It tries
// until then.
func sendPatiently(ctx context.Context, until time.Time, ch *sock.Channel, h *wire.Handover, with ...sock.Lender) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := sendHandover(ch, h, with...)
		if !errors.Is(err, errno.EAGAIN) || time.Now().After(until) {
			return err
		}
		if !wait.For(ctx, pause) {
			return ctx.Err()
		}
	}
}

// damagedError says that a message arrived and is of no use. Others may come behind it.
type damagedError struct{ error }

func (e *damagedError) Unwrap() error { return e.error }

// receiveHandover waits for the next message. The caller closes what came with it. The error
// is a *damagedError where the channel goes on.
func receiveHandover(ch *sock.Channel) (*wire.Handover, sock.Message, error) {
	return readHandover(ch.Recv())
}

// readHandover reads what has come.
func readHandover(msg sock.Message, err error) (*wire.Handover, sock.Message, error) {
	if err != nil {
		return nil, msg, err
	}
	f, err := msg.Frame()
	var h *wire.Handover
	if err == nil {
		h, err = frame.ParseHandover(f)
	}
	if err == nil {
		err = msg.Fault
	}
	if err != nil {
		msg.FDs.Close()
		err = &damagedError{err}
	}
	return h, msg, err
}

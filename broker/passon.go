package broker

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/wire"
)

// This file is how a broker that has a successor passes on what it has.

// releaseBackend ends a backend's channel as soon as nothing is under way on it, so that it
// registers with the successor.
func (s *server) releaseBackend(e *entry) {
	if s.successor == nil || e.Handle.channel == nil || e.Handle.inFlight > 0 {
		return
	}
	s.backendLeft(e, nil)
}

// passFrame gives the successor a connection whose frame has been read. It is false when
// there is none.
func (c *connection) passFrame(f *wire.Frame) bool {
	if c.server.successor == nil || c.plain {
		return false
	}
	received, err := frame.Append(nil, f)
	if err != nil {
		return false
	}
	c.passOn(received)
	return true
}

// passOn gives the successor a connection that is this broker's alone, with what was read
// from it. It is a job: the successor takes them one by one.
func (c *connection) passOn(received []byte) {
	next := phaseResolving
	if c.phase == phaseOffered {
		next = phaseReplying
	}
	if c.phase != phaseResolving {
		c.enter(next, c.deadline)
	}
	ch, conn, deadline := c.server.successor.channel, c.conn, c.deadline
	begun := offload(c, false, func(ctx context.Context) error {
		h := &wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_CONNECTION, Received: received}
		for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
			err := sendHandover(ch, h, conn)
			if !errors.Is(err, syscall.EAGAIN) || time.Now().After(deadline) {
				return err
			}
			select { // it has not taken those before
			case <-time.After(pause):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}, func(err error) {
		if err != nil {
			c.refuseAndClose(nil, hello.ShuttingDown())
			return
		}
		c.close()
	}, nil)
	if !begun {
		c.refuseAndClose(nil, hello.ShuttingDown())
	}
}

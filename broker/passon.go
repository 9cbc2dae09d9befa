package broker

import (
	"context"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/wire"
)

// This file is how a broker that has a successor passes on the connections that are its own
// (passbackend.go has the channels).

// passFrame gives the successor a connection whose frame has been read. It is false when
// there is none.
func (c *connection) passFrame(f *wire.Frame) bool {
	switch {
	case c.server.successor == nil, c.plain && !c.socket.handedOn:
		return false
	case c.plain:
		c.passOn(nil)
		return true
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
	ch, conn, deadline, path := c.server.successor.channel, c.conn, c.deadline, ""
	if c.plain {
		path = c.socket.binding.Path
	}
	begun := offload(c, false, func(ctx context.Context) error {
		return sendPatiently(ctx, deadline, ch, &wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_CONNECTION, Received: received, Path: path}, conn)
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

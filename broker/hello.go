package broker

import (
	"errors"

	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/wire"
)

// This file is step 2 of a connection's life, hello: take exactly one frame, and judge
// it. What is no Hello leaves the line here: admin.go, register.go.

// maxFirstFrame is what the broker reads at most. A body above 64 KiB is refused
// in any case; up to this size it is read to the end, so that the refusal can
// echo the request's id (spec 01 §15).
const maxFirstFrame = 4 * frame.MaxHelloBody

// read takes what has arrived of the first frame. Whatever happens in it concerns
// this connection alone.
func (c *connection) read() {
	body, err := c.in.Fill(&c.received, maxFirstFrame)
	if errors.Is(err, errno.EAGAIN) {
		err = c.readLater()
		if err == nil {
			return
		}
	}
	c.stopReading()
	var f *wire.Frame
	if err == nil {
		f, err = frame.Open(body)
	}
	switch {
	case err != nil:
		c.refuseAndClose(nil, hello.FromReadError(err))
	case f.PayloadProtocol == frame.Admin:
		c.serveAdmin(f)
	case f.PayloadProtocol == frame.Register:
		c.serveRegistration(f)
	default:
		c.serveHello(f, len(body))
	}
}

// readLater has read called when more has arrived, and overdue at the deadline.
func (c *connection) readLater() error {
	if c.watched {
		return nil
	}
	if err := c.server.loop.Add(c.conn, c.read); err != nil {
		return err
	}
	c.watched = true
	c.server.loop.WakeAt(c.deadline)
	return nil
}

// stopReading takes the descriptor out of the loop's set, which comes before it is
// closed or given away.
func (c *connection) stopReading() {
	if !c.watched {
		return
	}
	c.watched = false
	c.server.loop.Remove(c.conn)
}

// serveHello judges the frame, and goes on with step 3.
func (c *connection) serveHello(f *wire.Frame, size int) {
	if size > frame.MaxHelloBody { // refused, with an echo that fits the socket
		f.Traceparent, f.Tracestate = "", ""
	}
	h, refusal := c.judge(f, size)
	if refusal != nil {
		c.refuseAndClose(f, refusal)
		return
	}
	c.service, c.server.asked = h.ServiceName, true
	c.steps.mark("hello")
	c.enter(phaseResolving, c.deadline)
	c.resolve(f, h)
}

// judge follows rows 6 to 18 of spec 01 §7.1.
func (c *connection) judge(f *wire.Frame, size int) (*wire.Hello, *hello.Refusal) {
	var gate *hello.Refusal
	switch {
	case c.server.draining:
		gate = hello.ShuttingDown()
	case c.demoted:
		gate = hello.FDPressure()
	}
	h, refusal := hello.Open(f, size, gate)
	if refusal != nil {
		return nil, refusal
	}
	return h, hello.Validate(h, uint32(c.cred.PID))
}

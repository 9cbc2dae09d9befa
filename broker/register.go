package broker

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/brokerpb"
	"github.com/seed-7265657e/usher/internal/fdpass"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/names"
	"github.com/seed-7265657e/usher/internal/usherpb"
)

// serveRegistration takes in a backend that the broker did not start: verify it,
// make a channel, send the far end beside the answer (docs/protocol.md, section
// "Registration"). From then on the channel is the registration.
//
// Verifying may block and is a job; what follows belongs to the loop, which alone
// touches channels and their backends.
func (c *connection) serveRegistration(f *brokerpb.Frame) {
	req, err := frame.ParseRegister(f)
	if err != nil {
		c.log.Info("malformed registration", "peer_pid", c.cred.PID, "error", err)
		c.finish()
		return
	}
	c.away(func(ctx context.Context) func() {
		e, err := c.mayRegister(req)
		if err != nil {
			c.write(frame.Registered(f, &usherpb.Registered{Reason: err.Error(), BrokerPid: uint32(os.Getpid())}))
			c.log.Warn("registration refused", "service", req.ServiceName, "version", req.ServiceVersion, "peer_pid", c.cred.PID, "error", err)
			return c.finish
		}
		return func() {
			c.registered(f, e, req.ClaimPage)
			c.finish()
		}
	})
}

// registered takes in a backend that has been verified.
func (c *connection) registered(request *brokerpb.Frame, e *entry, wantsPage bool) {
	if err := c.takeIn(request, e, wantsPage); err != nil {
		e.Handle.process.Close()
		c.log.Warn("registration failed", "service", e.Service, "peer_pid", c.cred.PID, "error", err)
		return
	}
	c.log.Info("backend registered", "service", e.Service, "version", e.Version, "backend_pid", e.PID, "pipe", e.Pipe)
}

func (c *connection) mayRegister(req *usherpb.Register) (*entry, error) {
	if c.draining.Load() {
		return nil, errors.New("broker is shutting down")
	}
	if err := names.ServiceName(req.ServiceName); err != nil {
		return nil, err
	}
	if err := names.Version(req.ServiceVersion); err != nil {
		return nil, err
	}
	if n := c.backends.Len(); n >= c.opts.MaxBackends {
		return nil, fmt.Errorf("%d backends are registered already", n)
	}
	return c.verify(req)
}

// takeIn makes the channel, with a page of claims if the backend wants one, answers
// with its far end and enters the backend. An older registration of the same pipe by
// the same process ends: a backend asks again when it has lost its channel.
//
// It runs on the loop, and waits for nothing. The caller closes e's process after an
// error.
func (c *connection) takeIn(request *brokerpb.Frame, e *entry, wantsPage bool) error {
	// The process may have hung up, or have died, while it was verified; draining may
	// have closed every channel it knew.
	if err := c.work.Err(); err != nil {
		return err
	}
	ch, far, err := handoff.NewChannel()
	if err != nil {
		return err
	}
	e.Handle.channel, e.Handle.transport = ch, ch
	fds := []int{far}
	if wantsPage {
		page, err := ch.SharePage()
		if err == nil {
			fds = append(fds, page)
		} else {
			c.log.Debug("no page of claims for a backend; its claims are descriptors", "backend_pid", e.PID, "error", err)
		}
	}
	given := fdpass.Own(fds...)
	defer given.Close()
	e.Handle.exited, e.Handle.left = make(chan struct{}), make(chan struct{})
	kind := usherpb.ChannelKind_CHANNEL_KIND_SEQPACKET
	if ch.Stream() {
		kind = usherpb.ChannelKind_CHANNEL_KIND_STREAM
	}
	// In the registry before the answer leaves: a backend that knows itself registered
	// is. Nothing is offered to it before this function has returned, on the loop.
	c.backends.Add(e)
	err = writeNow(c.conn, frame.Registered(request, &usherpb.Registered{
		Accepted: true, BrokerPid: uint32(os.Getpid()), Channel: kind, ClaimPage: len(fds) > 1,
	}), fds...)
	if err != nil {
		c.backends.Remove(e)
		ch.Retire()
		return err
	}
	if older := c.backends.Find(e.Key, func(o *entry) bool {
		return o != e && o.PID == e.PID && o.Pipe == e.Pipe && o.Handle.channel != nil
	}); older != nil {
		older.Handle.cut = true
		older.Handle.channel.Close()
	}
	c.wg.Go(func() { c.watchProcess(e) })
	c.watchBackend(e)
	return nil
}

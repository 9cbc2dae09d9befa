package broker

import (
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
func (c *connection) serveRegistration(f *brokerpb.Frame) {
	req, err := frame.ParseRegister(f)
	if err != nil {
		c.log.Info("malformed registration", "peer_pid", c.cred.PID, "error", err)
		return
	}
	e, err := c.mayRegister(req)
	if err != nil {
		c.write(frame.Registered(f, &usherpb.Registered{Reason: err.Error(), BrokerPid: uint32(os.Getpid())}))
		c.log.Warn("registration refused", "service", req.ServiceName, "version", req.ServiceVersion, "peer_pid", c.cred.PID, "error", err)
		return
	}
	if err := c.takeIn(f, e, req.ClaimPage); err != nil {
		e.Handle.process.Close()
		c.log.Warn("registration failed", "service", req.ServiceName, "peer_pid", c.cred.PID, "error", err)
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
// with its far end and enters the backend. An
// older registration of the same pipe by the same process ends: a backend asks
// again when it has lost its channel.
func (c *connection) takeIn(request *brokerpb.Frame, e *entry, wantsPage bool) error {
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
	if older := c.backends.Find(e.Key, func(o *entry) bool { return o.PID == e.PID && o.Pipe == e.Pipe && o.Handle.channel != nil }); older != nil {
		older.Handle.channel.Close()
	}
	// In the registry before the answer leaves: a backend that knows itself
	// registered is.
	c.backends.Add(e)
	kind := usherpb.ChannelKind_CHANNEL_KIND_SEQPACKET
	if ch.Stream() {
		kind = usherpb.ChannelKind_CHANNEL_KIND_STREAM
	}
	// Draining may have given up on this connection, and closed every channel it
	// knew, just before.
	if err = c.ctx.Err(); err == nil {
		err = writeNow(c.conn, frame.Registered(request, &usherpb.Registered{
			Accepted: true, BrokerPid: uint32(os.Getpid()), Channel: kind, ClaimPage: len(fds) > 1,
		}), fds...)
	}
	if err != nil {
		c.backends.Remove(e)
		ch.Retire()
		return err
	}
	c.wg.Go(func() { c.watchProcess(e) })
	if !c.loop.Post(func() { c.watchBackend(e) }) {
		c.leftBackend(e, nil)
	}
	return nil
}

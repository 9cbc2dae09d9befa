package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/fdpass"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/names"
	"github.com/seed-7265657e/usher/internal/wire"
)

// serveRegistration takes in a backend that the broker did not start: verify it,
// make a channel, send the far end beside the answer (docs/protocol.md, section
// "Registration"). From then on the channel is the registration.
//
// Verifying may block and is a job; what follows belongs to the loop, which alone
// touches channels and their backends.
func (c *connection) serveRegistration(f *wire.Frame) {
	req, err := frame.ParseRegister(f)
	if err != nil {
		c.log.Info("malformed registration", "peer_pid", c.cred.PID, "error", err)
		c.finish()
		return
	}
	c.readFiles(func(job context.Context) func() {
		e, err := c.mayRegister(job, req)
		return func() {
			switch {
			case c.phase == phaseClosed && err == nil: // without waiting for the file system
				e.Handle.process.Close()
			case c.phase == phaseClosed:
			case err != nil:
				c.refuseRegistration(f, req, err)
			default:
				c.register(f, req, e)
			}
			c.finish()
		}
	})
}

func (c *connection) refuseRegistration(request *wire.Frame, req *wire.Register, why error) {
	c.answer(frame.Registered(request, &wire.Registered{Reason: why.Error(), BrokerPid: uint32(os.Getpid())}))
	c.log.Warn("registration refused", "service", req.ServiceName, "version", req.ServiceVersion, "peer_pid", c.cred.PID, "error", why)
}

// register takes in a backend that has been verified. It owns e's process until then.
func (c *connection) register(request *wire.Frame, req *wire.Register, e *entry) {
	older, err := c.place(e)
	if err != nil {
		e.Handle.process.Close()
		c.refuseRegistration(request, req, err)
		return
	}
	if err := c.takeIn(request, e, req.ClaimPage); err != nil {
		e.Handle.process.Close()
		c.log.Warn("registration failed", "service", e.Service, "peer_pid", c.cred.PID, "error", err)
		return
	}
	if older != nil {
		older.Handle.channel.Close()
	}
	c.ready(e.Key)
	c.log.Info("backend registered", "service", e.Service, "version", e.Version, "backend_pid", e.PID, "pipe", e.Pipe)
}

func (c *connection) mayRegister(job context.Context, req *wire.Register) (*entry, error) {
	if c.draining.Load() {
		return nil, errors.New("broker is shutting down")
	}
	if err := names.ServiceName(req.ServiceName); err != nil {
		return nil, err
	}
	if err := names.Version(req.ServiceVersion); err != nil {
		return nil, err
	}
	return c.verify(job, req)
}

// place looks for the backend's older registration, which a new one replaces, and
// whether there is room for one more. It runs on the loop, so that the bounds hold.
func (c *connection) place(e *entry) (older *entry, err error) {
	own, renewed := 0, 0
	for _, o := range c.backends.All() {
		if o.PID != e.PID || o.Handle.channel == nil {
			continue
		}
		if slices.Contains(e.Handle.renews, o) {
			renewed++
			continue
		}
		own++
		if o.Key == e.Key && o.Pipe == e.Pipe {
			older = o
		}
	}
	if older != nil {
		return older, nil
	}
	if n := c.backends.Len() - renewed; n >= c.opts.MaxBackends {
		return nil, fmt.Errorf("%d backends are registered already", n)
	}
	if most := c.opts.maxBackendsPerProcess(); own >= most {
		return nil, fmt.Errorf("process %d has registered %d backends already", e.PID, own)
	}
	return nil, nil
}

// takeIn makes the channel, with a page of claims if the backend wants one, answers
// with its far end and enters the backend.
//
// It runs on the loop, and waits for nothing. The caller closes e's process after an
// error.
func (c *connection) takeIn(request *wire.Frame, e *entry, wantsPage bool) error {
	// The process may have hung up, or have died, while it was verified; draining may
	// have closed every channel it knew.
	if err := c.work.Err(); err != nil {
		return err
	}
	ch, far, err := handoff.NewChannel(c.handoffs)
	if err != nil {
		return err
	}
	e.Handle.channel = ch
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
	kind := wire.ChannelKind_CHANNEL_KIND_SEQPACKET
	if ch.Stream() {
		kind = wire.ChannelKind_CHANNEL_KIND_STREAM
	}
	// In the registry before the answer leaves: a backend that knows itself registered
	// is. Nothing is offered to it before this function has returned, on the loop.
	c.backends.Add(e)
	err = writeNow(c.conn, frame.Registered(request, &wire.Registered{
		Accepted: true, BrokerPid: uint32(os.Getpid()), Channel: kind, ClaimPage: len(fds) > 1,
	}), fds...)
	if err != nil {
		c.backends.Remove(e)
		ch.Retire()
		return err
	}
	c.wg.Go(func() { c.watchProcess(e) })
	c.watchBackend(e)
	return nil
}

package broker

import (
	"context"
	"os"
	"time"

	"github.com/seed-7265657e/usher/internal/admin"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/wire"
)

// serveAdmin answers one admin request (spec 01 §12). A malformed one gets no
// answer, and ends nothing but its own connection.
func (c *connection) serveAdmin(job context.Context, f *wire.Frame) {
	reply, verb, err := admin.Handle(f, c.snapshot(job))
	if err != nil {
		c.log.Info("malformed admin request", "peer_pid", c.cred.PID, "error", err)
		return
	}
	c.write(reply)
	if verb == wire.AdminVerb_ADMIN_VERB_SHUTDOWN {
		req := new(wire.AdminRequest)
		_ = frame.Unmarshal(f.Payload, req) // Handle has decoded it already
		c.wg.Go(func() { c.shutDown(&shutdownRequest{deadline: milliseconds(req.DrainDeadlineMs)}) })
	}
}

// milliseconds bounds a number that a peer sent to what a Duration can hold.
func milliseconds(ms uint64) time.Duration {
	const most = uint64(24 * time.Hour / time.Millisecond)
	return time.Duration(min(ms, most)) * time.Millisecond
}

// snapshot gathers what admin replies show. This connection itself is one of the
// open ones.
func (b *Broker) snapshot(ctx context.Context) admin.Snapshot {
	now := time.Now()
	s := admin.Snapshot{
		Now:                 now,
		Instance:            b.opts.Instance,
		PID:                 os.Getpid(),
		Uptime:              now.Sub(b.started),
		Accepting:           !b.pressure.active() && !b.draining.Load(),
		ConnectionsOpen:     b.conns.count(),
		FDDemoted:           b.pressure.active(),
		FDUsage:             admin.ProbeDescriptors(),
		SocketPath:          b.Socket(),
		ServiceDefDir:       b.opts.DefinitionDir,
		ServiceDefDirSource: b.opts.DefinitionSource,
		System:              b.system,
		Inodes:              inodes(),
		Handoffs:            b.counters.handoffs(),
		Clients:             b.counters.clients(),
	}
	for _, e := range b.backends.All() {
		if ch := e.Handle.channel; ch != nil {
			s.Handoffs.StrayAck += ch.Strays().Total()
		}
		s.Backends = append(s.Backends, admin.Backend{
			Service:      e.Service,
			Version:      e.Version,
			PID:          e.PID,
			Pipe:         e.Pipe,
			LastActiveMS: max(e.Since.UnixMilli(), e.LastHello()),
			LastHelloMS:  e.LastHello(),
			LastError:    e.LastError(),
			Stale:        !e.Handle.process.Alive(),
			OtherBuild:   b.otherBuild(ctx, e),
			Silent:       !e.Handle.sound(),
		})
	}
	return s
}

// otherBuild reports whether the definition names another executable by now than the
// backend runs. It is false where that can't be told.
func (b *Broker) otherBuild(ctx context.Context, e *entry) bool {
	f, refusal := b.look(ctx, e.Service)
	return refusal == nil && f.buildErr == nil && !f.definition.AllowsExecutable(e.ExePath, e.ExeHash, f.build)
}

func inodes() admin.Inodes {
	dir, err := endpoint.StateDir()
	if err != nil {
		return admin.Inodes{Problem: err.Error()}
	}
	return admin.ProbeInodes(dir)
}

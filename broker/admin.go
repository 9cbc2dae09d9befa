package broker

import (
	"context"
	"os"
	"time"

	"github.com/seed-7265657e/usher/internal/admin"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/usage"
	"github.com/seed-7265657e/usher/internal/wire"
)

// adminAnswer is what the job that answers an admin request came to.
type adminAnswer struct {
	verb      wire.AdminVerb
	drain     time.Duration // of SHUTDOWN; 0 for the broker's own
	malformed error
	write     error
}

// serveAdmin answers one admin request (spec 01 §12). A malformed one gets no
// answer, and ends nothing but its own connection.
//
// What the loop knows is taken down here; formatting it, what files and processes say,
// and writing an answer of any size are a job.
func (c *connection) serveAdmin(f *wire.Frame) {
	s, req := c.server, admin.Request(f)
	if req == nil { // admin.Handle says why
		req = new(wire.AdminRequest)
	}
	if admin.OfService(req.Verb) {
		c.serveServiceVerb(f, req)
		return
	}
	c.enter(phaseReplying, c.deadline)
	switch {
	case req.Verb == wire.AdminVerb_ADMIN_VERB_UPGRADE:
		c.serveUpgrade(f)
	case req.Verb == wire.AdminVerb_ADMIN_VERB_STATUS && s.orphans.left > 0: // it would miss them
		s.orphans.then = append(s.orphans.then, func() {
			if c.phase == phaseReplying {
				c.answerAdmin(f, req)
			}
		})
	default:
		c.answerAdmin(f, req)
	}
}

// answerAdmin answers what the loop does not wait for.
func (c *connection) answerAdmin(f *wire.Frame, req *wire.AdminRequest) {
	s := c.server
	snapshot, backends, files, conn := s.snapshot(), s.backends.All(), s.files, c.conn
	ask := s.addInstances(&snapshot)
	begun := converse(c, func(ctx context.Context) (a adminAnswer) {
		files.complete(ctx, &snapshot, backends)
		ask(&snapshot)
		reply, verb, err := admin.Handle(f, snapshot)
		if err != nil {
			return adminAnswer{malformed: err}
		}
		a.verb = verb
		if verb == wire.AdminVerb_ADMIN_VERB_SHUTDOWN {
			a.drain = milliseconds(req.DrainDeadlineMs)
		}
		_, a.write = frame.Write(conn, reply)
		return a
	}, func(a adminAnswer) {
		switch {
		case a.malformed != nil:
			s.emit(event.AdminMalformed{PID: c.cred.PID, Problem: a.malformed.Error()})
		case a.verb == wire.AdminVerb_ADMIN_VERB_SHUTDOWN:
			s.shutDown(&shutdownRequest{deadline: a.drain})
			fallthrough
		default:
			c.noteWrite(a.write)
		}
		c.close()
	}, nil)
	if !begun {
		c.close()
	}
}

// serveUpgrade answers once another broker serves in this one's place, or with the reason
// why none does.
func (c *connection) serveUpgrade(f *wire.Frame) {
	s, conn := c.server, c.conn
	begun := converse(c, func(ctx context.Context) error {
		pid, err := s.upgradeOnce(ctx)
		_, err = frame.Write(conn, frame.Response(f, wire.Marshal(admin.Upgraded(pid, err))))
		return err
	}, func(err error) {
		c.noteWrite(err)
		c.close()
	}, nil)
	if !begun {
		c.close()
	}
}

// milliseconds bounds a number that a peer sent to what a Duration can hold.
func milliseconds(ms uint64) time.Duration {
	const most = uint64(24 * time.Hour / time.Millisecond)
	return time.Duration(min(ms, most)) * time.Millisecond
}

// snapshot is what admin replies show of the broker's state. This connection itself is
// one of the open ones.
func (s *server) snapshot() admin.Snapshot {
	now := time.Now()
	snapshot := admin.Snapshot{
		Now:                 now,
		Instance:            s.opts.Instance,
		PID:                 os.Getpid(),
		Uptime:              now.Sub(s.started),
		Accepting:           !s.pressure.demoted && !s.draining,
		ConnectionsOpen:     s.conns.open,
		FDDemoted:           s.pressure.demoted,
		SocketPath:          s.binding.Path,
		ServiceDefDir:       s.opts.DefinitionDir,
		ServiceDefDirSource: s.opts.DefinitionSource,
		System:              s.system,
		Handoffs:            s.counters.shownHandoffs(),
		Clients:             s.counters.shownClients(),
	}
	for _, e := range s.backends.All() {
		if ch := e.Handle.channel; ch != nil {
			snapshot.Handoffs.StrayAck += ch.Strays().Total()
			snapshot.Handoffs.UnknownMessages += ch.UnknownMessages()
		}
		row := admin.Backend{
			Service:      e.Service,
			Version:      e.Version,
			PID:          e.PID,
			Pipe:         e.Pipe,
			LastActiveMS: e.Since.UnixMilli(),
			LastError:    e.LastError,
			Silent:       !e.Handle.sound(),
		}
		if !e.LastHello.IsZero() {
			row.LastHelloMS = e.LastHello.UnixMilli()
			row.LastActiveMS = max(row.LastActiveMS, row.LastHelloMS)
		}
		snapshot.Backends = append(snapshot.Backends, row)
	}
	return snapshot
}

// complete adds what files and processes say about the broker and its backends, which
// are those of the snapshot, in its order.
func (f files) complete(ctx context.Context, s *admin.Snapshot, backends []*entry) {
	s.FDUsage, s.Inodes = usage.Descriptors(), inodes()
	for i, e := range backends {
		s.Backends[i].Stale = !e.Handle.process.Alive()
		s.Backends[i].OtherBuild = f.otherBuild(ctx, e)
	}
}

// otherBuild reports whether the definition names another executable by now than the
// backend runs. It is false where that can't be told.
func (f files) otherBuild(ctx context.Context, e *entry) bool {
	d, err := f.define(ctx, e.Service)
	return err == nil && d.buildErr == nil && !d.service.AllowsExecutable(e.ExePath, e.ExeHash, d.build)
}

func inodes() usage.Inodes {
	dir, err := endpoint.StateDir()
	if err != nil {
		return usage.Inodes{Problem: err.Error()}
	}
	return usage.CountInodes(dir)
}

package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/filehash"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/registry"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/wire"
)

// This file is step 3 of a connection's life, resolve: service definition, version
// policy, live backend of that version and build, in the order of rows 19 to 35 of
// spec 01 §7.1. Reading files is a job; everything else is the loop's.

// target is what a Hello resolved to. The definition it was resolved with holds
// for the whole connection, whatever happens to the file.
type target struct {
	request    *wire.Frame
	hello      *wire.Hello
	definition *service.Definition
	handoff    service.HandoffPolicy
	key        registry.Key
	build      [32]byte             // BLAKE3 of the file at binary_path; zero when unreadable
	start      *service.StartPolicy // nil where the broker starts no instance
	backend    *entry
	starts     bool // an instance can be started where none runs
}

type entry = registry.Entry[*backend]

// resolve begins with what the files say: the cache knows, or a job reads them.
func (c *connection) resolve(f *wire.Frame, h *wire.Hello) {
	if c.held(f, h) {
		return
	}
	if len(h.OwnBuild) > 0 {
		c.resolveOwnBuild(f, h)
		return
	}
	if known := c.server.definitions.lookup(h.ServiceName, time.Now()); known != nil {
		c.resolveWith(known, f, h)
		return
	}
	c.readDefinition(f, h, roomForReading)
}

// roomForReading is how many connections without a Hello are closed, one after the other,
// for the descriptors that reading a definition and hashing a binary need.
const roomForReading = 4

// readDefinition has the files read, and the Hello resolved with what they say. Where
// descriptors are missing, the oldest connection that has sent nothing makes room, up to
// evictions times: those who only connect can't keep out those who speak.
func (c *connection) readDefinition(f *wire.Frame, h *wire.Hello, evictions int) {
	s := c.server
	files, name, deadline, serving := s.files, h.ServiceName, c.deadline, s.jobs.serving
	conn, ownBuild := c.conn, h.OwnBuild
	begun := offload(c, true, func(ctx context.Context) reading {
		if len(ownBuild) > 0 {
			return readOwnBuild(conn, name, ownBuild)
		}
		ctx, cancel := untilDrain(ctx, deadline, serving)
		defer cancel()
		return files.read(ctx, name)
	}, func(r reading) {
		err := r.err
		if err == nil {
			err = r.definition.buildErr
			s.definitions.store(name, r.cacheable)
		}
		switch {
		case evictions > 0 && noDescriptor(err) && s.evict():
			c.readDefinition(f, h, evictions-1)
		case r.err != nil:
			s.pressure.failed(r.err)
			c.refuseAndClose(f, unreadable(r.err))
		case s.jobs.work.Err() != nil: // it came back when every channel had been closed
			r.definition.close()
			c.refuseAndClose(f, hello.ShuttingDown())
		default:
			c.resolveWith(r.definition, f, h)
		}
	}, func(r reading) { r.definition.close() })
	if !begun {
		c.refuseAndClose(f, hello.ShuttingDown())
	}
}

// resolveWith ends step 3. The backend is looked for and, where there is none, waited
// for in one go: one that registers meanwhile would be missed.
func (c *connection) resolveWith(d *definition, f *wire.Frame, h *wire.Hello) {
	defer d.close()
	if c.passFrame(f) || c.held(f, h) { // the broker was replaced, or the service paused, while files were read
		return
	}
	if c.plain && (d.start == nil || d.start.Listen == "") { // its definition has changed meanwhile
		c.refuseAndClose(f, hello.ServiceNotFound())
		return
	}
	if d.program != nil {
		c.server.considerUpgrade(h.WantedVersion, d.program)
	}
	t, refusal := c.match(d, f, h)
	if refusal != nil && t != nil && d.starts() {
		c.awaitStart(t, d)
		return
	}
	if refusal != nil {
		if t == nil || !c.waitForBackend(t) {
			c.refuseAndClose(f, refusal)
		}
		return
	}
	c.steps.mark("resolve")
	c.deliver(t)
}

// match judges what the files say, and finds the backend. A target comes with the
// refusal where nothing but the backend is missing.
func (c *connection) match(d *definition, request *wire.Frame, h *wire.Hello) (*target, *hello.Refusal) {
	t, refusal := c.server.matchTarget(d, request, h)
	if refusal != nil {
		return t, refusal
	}
	if err := t.definition.CheckUsable(); err != nil {
		return nil, hello.BackendUnusable(err)
	}
	if c.counted {
		return t, nil
	}
	if retry, ok := c.server.hellos.Allow(uint32(c.cred.PID), time.Now()); !ok {
		return nil, hello.RateLimited(retry)
	}
	c.counted = true
	return t, nil
}

// matchTarget is match but for what concerns one client alone.
func (s *server) matchTarget(d *definition, request *wire.Frame, h *wire.Hello) (*target, *hello.Refusal) {
	t := &target{request: request, hello: h, definition: d.service, handoff: d.handoff, build: d.build, start: d.start, starts: d.starts()}
	switch err := t.definition.CheckVersion(h.WantedVersion); {
	case errors.Is(err, service.ErrBelowMinVersion):
		return nil, hello.BelowMinVersion()
	case err != nil:
		return nil, hello.OutsideAllowList()
	case d.instanceErr != nil:
		return nil, hello.IsolationUnresolved(d.instanceErr)
	case d.handoffErr != nil:
		return nil, hello.ServiceUnloadable(d.handoffErr)
	case d.startErr != nil:
		return nil, hello.ServiceUnloadable(d.startErr)
	case s.pressure.failed(d.buildErr):
		return nil, hello.FDPressure()
	} // unreadable otherwise: matches no build
	t.key = registry.Key{Instance: d.instance, Service: h.ServiceName, Version: h.WantedVersion, Variant: d.variant}
	if t.start.OwnListener() { // one process, whatever version is asked for
		t.key.Version = plainVersion(t.definition)
	}
	if t.start.PerConnection() {
		if d.buildErr != nil {
			return nil, hello.StartFailed(fmt.Sprintf("%s can't be started: %v", h.ServiceName, d.buildErr), 0)
		}
		t.backend = ownProcess(t)
	} else if t.backend = s.find(t, nil); t.backend == nil {
		if d.buildErr != nil {
			return nil, noBackend(d.buildErr)
		}
		return t, hello.BackendNotRegistered() // it may be worth waiting for one
	}
	return t, nil
}

// errFileSystem says why a definition or an executable could not be read.
var errFileSystem = errors.New("its file system does not answer")

// noBackend is the refusal when no backend fits. When the build that is wanted is
// not known, that is why.
func noBackend(buildErr error) *hello.Refusal {
	var large *filehash.TooLargeError
	switch {
	case errors.As(buildErr, &large):
		return hello.ServiceUnloadable(buildErr)
	case errors.Is(buildErr, context.Canceled): // by the end of serving: see untilDrain
		return hello.ShuttingDown()
	case errors.Is(buildErr, context.DeadlineExceeded):
		refusal := hello.ServiceUnloadable(fmt.Errorf("in the time that a connection has: %w", buildErr))
		refusal.RetryAfter = time.Second
		return refusal
	}
	return hello.BackendNotRegistered()
}

// find returns the live backend for t that registered last and suits, or nil; nil suits
// every one. One that was found silent is the last choice: a frozen instance must not
// cost every client its deadline.
func (s *server) find(t *target, suits func(*entry) bool) *entry {
	fits := func(e *entry) bool {
		allowed := t.definition.AllowsExecutable(e.ExePath, e.ExeHash, t.build)
		if t.start.OwnListener() || e.Handle.listens {
			allowed = t.start != nil && e.Handle.listensFor(t.start)
		}
		return allowed && !e.Handle.gone() && (suits == nil || suits(e))
	}
	if e := s.backends.Find(t.key, func(e *entry) bool { return e.Handle.sound() && fits(e) }); e != nil {
		return e
	}
	return s.backends.Find(t.key, fits)
}

// window names the failure window of the target's backends (spec 02 §4).
func (t *target) window() handoff.Key {
	return handoff.Key{
		Instance: t.key.Instance,
		Service:  t.key.Service,
		Version:  t.key.Version,
		ExeHash:  string(t.backend.ExeHash[:]),
	}
}

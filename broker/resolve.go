package broker

import (
	"context"
	"errors"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/names"
	"github.com/seed-7265657e/usher/internal/registry"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/wire"
)

// target is what a Hello resolved to. The definition it was resolved with holds
// for the whole connection, whatever happens to the file.
type target struct {
	request    *wire.Frame
	hello      *wire.Hello
	definition *service.Definition
	handoff    service.HandoffPolicy
	key        registry.Key
	build      [32]byte // BLAKE3 of the file at binary_path; zero when unreadable
	backend    *entry
}

type entry = registry.Entry[*backend]

// This file is step 3 of a connection's life, resolve: service definition, version
// policy, live backend of that version and build, in the order of rows 19 to 35 of
// spec 01 §7.1. Reading files is a job; everything else is the loop's.

// readFacts is the job: what the files say about a service.
func (c *connection) readFacts(job context.Context, name string) (*facts, *hello.Refusal) {
	began := time.Now()
	ctx, cancel := c.hashing(job)
	defer cancel()
	f, refusal := c.look(ctx, name)
	if refusal != nil {
		return nil, refusal
	}
	c.memory.remember(name, f, began)
	return f, nil
}

// match judges what the files say, and finds the backend. A target comes with the
// refusal where nothing but the backend is missing.
func (c *connection) match(f *facts, request *wire.Frame, h *wire.Hello) (*target, *hello.Refusal) {
	t := &target{request: request, hello: h, definition: f.definition, handoff: f.handoff, build: f.build}
	switch err := t.definition.CheckVersion(h.WantedVersion); {
	case errors.Is(err, service.ErrBelowMinVersion):
		return nil, hello.BelowMinVersion()
	case err != nil:
		return nil, hello.OutsideAllowList()
	case f.instanceErr != nil:
		return nil, hello.IsolationUnresolved(f.instanceErr)
	case f.handoffErr != nil:
		return nil, hello.ServiceUnloadable(f.handoffErr)
	case c.pressure.failed(f.buildErr):
		return nil, hello.FDPressure()
	} // unreadable otherwise: matches no build
	t.key = registry.Key{Instance: f.instance, Service: h.ServiceName, Version: h.WantedVersion}
	if t.backend = c.find(t, nil); t.backend == nil {
		if f.buildErr != nil {
			return nil, noBackend(f.buildErr)
		}
		return t, hello.BackendNotRegistered() // it may be worth waiting for one
	}
	if err := t.definition.CheckUsable(); err != nil {
		return nil, hello.BackendUnusable(err)
	}
	if retry, ok := c.limiter.Allow(uint32(c.cred.PID), time.Now()); !ok {
		return nil, hello.RateLimited(retry)
	}
	return t, nil
}

// define loads the definition anew: a change on disk holds from the next Hello.
func (b *Broker) define(name string) (*service.Definition, *hello.Refusal) {
	d, err := service.Load(b.opts.DefinitionDir, name)
	var invalid *names.InvalidError
	switch {
	case err == nil:
		return d, nil
	case errors.As(err, &invalid):
		return nil, hello.InvalidServiceName()
	case errors.Is(err, service.ErrNotFound):
		return nil, hello.ServiceNotFound()
	case b.pressure.failed(err): // nothing is wrong with the definition
		return nil, hello.FDPressure()
	}
	return nil, hello.ServiceUnloadable(err)
}

// find returns the live backend for t that registered last and suits, or nil; nil suits
// every one. One that was found silent is the last choice: a frozen instance must not
// cost every client its deadline.
func (b *Broker) find(t *target, suits func(*entry) bool) *entry {
	fits := func(e *entry) bool {
		return t.definition.AllowsExecutable(e.ExePath, e.ExeHash, t.build) && !e.Handle.gone() && (suits == nil || suits(e))
	}
	if e := b.backends.Find(t.key, func(e *entry) bool { return e.Handle.sound() && fits(e) }); e != nil {
		return e
	}
	return b.backends.Find(t.key, fits)
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

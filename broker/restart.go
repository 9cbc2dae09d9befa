package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-7265657e/usher/internal/admin"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/registry"
	"github.com/seed-7265657e/usher/internal/wire"
)

// Instances of one key are one to clients, who are given to the newest. So a restart starts
// one new instance for each key, and lets the others go once it is ready.

// replacement is one key whose instances are to be replaced.
type replacement struct {
	key     registry.Key
	entries []*entry
	// Of own builds: what they are for, and processes that run it.
	own       []byte
	processes []*peer.Process
}

// restartInstances has new instances take the place of those that live, which end after
// their last connection.
func (c *connection) restartInstances() {
	s, v := c.server, c.control
	var replacements []*replacement
	for _, e := range s.matching(v.request.ServiceName, v.request.ServiceVersion) {
		at := slices.IndexFunc(replacements, func(r *replacement) bool { return r.key == e.Key })
		if at < 0 {
			at = len(replacements)
			replacements = append(replacements, &replacement{key: e.Key})
		}
		r := replacements[at]
		r.entries = append(r.entries, e)
		if own := e.Handle.own; own != nil {
			r.own, r.processes = own.message, append(r.processes, e.Handle.process)
		}
	}
	if len(replacements) == 0 {
		if n := len(s.processes.matching(v.request.ServiceName, v.request.ServiceVersion)); n > 0 {
			v.say(fmt.Sprintf("each connection to %s has a process of its own, which ends with it: %d live, and the next one begins anew", v.request.ServiceName, n), nil)
		} else {
			v.say("no instance of "+v.request.ServiceName+" lives: there is nothing to restart", nil)
		}
		c.answerControl()
		return
	}
	files, drop := s.files, func(all []reading) {
		for _, r := range all {
			r.definition.close()
		}
	}
	begun := offload(c, true, func(ctx context.Context) (all []reading) {
		for _, r := range replacements {
			all = append(all, r.read(ctx, files))
		}
		return all
	}, func(all []reading) {
		if s.draining || s.jobs.work.Err() != nil {
			drop(all)
			c.control.fail("the broker is shutting down")
			c.answerControl()
			return
		}
		for i, r := range replacements {
			c.replace(r, all[i])
		}
		if c.control.starting == 0 {
			c.answerControl()
		}
	}, drop)
	if !begun {
		c.close()
	}
}

// read is the job: what a new instance is to be started from.
func (r *replacement) read(ctx context.Context, files files) reading {
	if r.own == nil {
		return files.read(ctx, r.key.Service)
	}
	found := reading{err: errors.New("none of its processes lives")}
	for _, process := range r.processes {
		found = identifiedBuild(process, r.key.Service, r.own)
		switch {
		case found.err != nil:
		case found.definition.variant != r.key.Variant:
			found.definition.close()
			found = reading{err: fmt.Errorf("%w: the executable of process %d has changed", errOwnBuild, process.PID())}
		default:
			return found
		}
	}
	return found
}

// replace begins to start an instance in the place of others, where the broker knows how.
func (c *connection) replace(r *replacement, found reading) {
	s, v := c.server, c.control
	err := found.err
	if err == nil {
		defer found.definition.close()
		err = r.fits(found.definition)
	}
	if err == nil && !found.definition.starts() {
		c.letGoByHand(r)
		return
	}
	if err != nil {
		c.keep(r, err.Error())
		return
	}
	starting := s.starts.pending[r.key] // somebody has asked for one already
	if starting == nil {
		t := &target{request: new(wire.Frame), hello: new(wire.Hello), definition: found.definition.service, key: r.key, build: found.definition.build, start: found.definition.start}
		if starting, err = s.start(t, found.definition, time.Now(), len(r.entries)); err != nil {
			c.keep(r, fmt.Sprintf("%s can't be started: %v", r.key.Service, err))
			return
		}
	}
	for _, e := range r.entries { // an address is one program's alone, and that of the one before
		if e.Handle.letGo {
			v.note(e, admin.Drains, "is to end before the next one begins")
		}
	}
	r.entries = slices.DeleteFunc(r.entries, func(e *entry) bool { return e.Handle.letGo })
	v.starting++
	before := starting.over
	starting.over = func(why string) {
		if before != nil {
			before(why)
		}
		c.replaced(v, r, starting.entry, why)
	}
}

// fits says why a definition is none for another instance of r's key.
func (r *replacement) fits(d *definition) error {
	if err := errors.Join(d.service.CheckVersion(r.key.Version), d.instanceErr, d.startErr, d.buildErr); err != nil {
		return err
	}
	if d.instance != r.key.Instance {
		return fmt.Errorf("its definition names another broker instance by now: %s", d.instance)
	}
	return nil
}

// keep notes that nothing was done with r's instances.
func (c *connection) keep(r *replacement, why string) {
	c.control.outcome.Failed = true
	for _, e := range r.entries {
		c.control.note(e, admin.Kept, why)
	}
}

// letGoByHand has instances go for which the broker can't start others.
func (c *connection) letGoByHand(r *replacement) {
	for _, e := range r.entries {
		if why := e.Handle.stays(); why != "" {
			c.control.outcome.Failed = true
			c.control.note(e, admin.Kept, why)
			continue
		}
		c.server.letGo(e, event.Replaced)
		c.control.note(e, admin.Drains, "it was started by hand: whoever started it starts it again")
	}
}

// replaced goes on when an instance is ready, or has failed, that is to take the place of
// others. The request may have been answered meanwhile.
func (c *connection) replaced(v *control, r *replacement, by *entry, why string) {
	s := c.server
	if why != "" {
		v.outcome.Failed = true
		if len(r.entries) == 0 { // it had to end first
			v.say(why, nil)
		}
		for _, e := range r.entries {
			v.note(e, admin.Kept, "what was to take its place failed: "+why)
		}
	} else {
		v.note(by, admin.Started, "")
		for _, e := range r.entries {
			if kept := e.Handle.stays(); kept != "" {
				v.note(e, admin.Kept, kept)
			} else if s.letGo(e, event.Replaced) {
				v.note(e, admin.Drains, "")
			}
		}
	}
	if v.starting--; v.starting == 0 && c.control == v && c.job == nil {
		c.answerControl()
	}
}

package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-7265657e/usher/internal/admin"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/names"
	"github.com/seed-7265657e/usher/internal/wire"
)

// This file is what people do with the instances of a service: restart, stop, pause and
// resume (docs/protocol.md, section "Service verbs"). A request waits on the loop for what
// it has begun, as a connection in phaseReplying, and is answered when that is done or its
// deadline is over; what it has begun goes on in either case.

// control is a service verb under way.
type control struct {
	frame   *wire.Frame
	request *wire.AdminRequest
	outcome admin.Outcome

	begun    bool                // else it waits for instances that are about to register
	starting int                 // new instances that are not ready
	ending   map[*entry]struct{} // instances whose processes have not ended
}

const (
	// defaultControl is how long a request waits that names no deadline, and mostControl
	// how long one waits at most.
	defaultControl = 10 * time.Second
	mostControl    = 10 * time.Minute
	// controlReply is how long its answer may take to be written.
	controlReply = 5 * time.Second
)

// serveServiceVerb begins what a service verb asks for.
func (c *connection) serveServiceVerb(f *wire.Frame, req *wire.AdminRequest) {
	s := c.server
	if s.replacing.underWay { // it is the next broker's, if there is one
		s.replacing.then = append(s.replacing.then, func() {
			if c.phase == phaseReading {
				c.serveServiceVerb(f, req)
			}
		})
		return
	}
	wait := defaultControl
	if req.DrainDeadlineMs > 0 {
		wait = min(milliseconds(req.DrainDeadlineMs), mostControl)
	}
	c.enter(phaseReplying, time.Now().Add(wait))
	s.loop.WakeAt(c.deadline)
	c.control = &control{frame: f, request: req, ending: make(map[*entry]struct{})}
	s.controls[c] = true

	err := names.ServiceName(req.ServiceName)
	if err == nil && req.ServiceVersion != "" {
		err = names.Version(req.ServiceVersion)
	}
	if err == nil && s.draining {
		err = errors.New("the broker is shutting down")
	}
	if err != nil {
		c.control.fail(err.Error())
		c.answerControl()
		return
	}
	switch req.Verb {
	case wire.AdminVerb_ADMIN_VERB_SERVICE_RESTART, wire.AdminVerb_ADMIN_VERB_SERVICE_STOP:
		if s.orphans.awaited(time.Now()) {
			s.orphans.then = append(s.orphans.then, func() {
				if s.controls[c] {
					c.beginServiceVerb()
				}
			})
			return
		}
	}
	c.beginServiceVerb()
}

// beginServiceVerb goes on when all instances are known that there are.
func (c *connection) beginServiceVerb() {
	s, req := c.server, c.control.request
	c.control.begun = true
	switch req.Verb {
	case wire.AdminVerb_ADMIN_VERB_SERVICE_RESTART:
		c.restartInstances()
	case wire.AdminVerb_ADMIN_VERB_SERVICE_STOP:
		c.stopInstances()
	case wire.AdminVerb_ADMIN_VERB_SERVICE_PAUSE:
		c.control.say(s.pause(req.ServiceName, req.ServiceVersion))
		c.answerControl()
	case wire.AdminVerb_ADMIN_VERB_SERVICE_RESUME:
		c.control.say(s.resume(req.ServiceName, req.ServiceVersion))
		c.answerControl()
	}
}

// fail notes why something was not done.
func (v *control) fail(why string) {
	v.outcome.Failed = true
	v.outcome.Lines = append(v.outcome.Lines, why)
}

func (v *control) say(line string, err error) {
	if err != nil {
		v.fail(err.Error())
		return
	}
	v.outcome.Lines = append(v.outcome.Lines, line)
}

// note says what has become of an instance.
func (v *control) note(e *entry, result, text string) {
	change := admin.Change{
		Service: e.Service, Version: e.Version, Variant: e.Variant, PID: e.PID,
		Result: result, Connections: e.Handle.connections(), Text: text,
	}
	if result == admin.Drains && change.Connections > 0 {
		change.Text = fmt.Sprintf("serves %s", plural(change.Connections, "connection"))
		if text != "" {
			change.Text += "; " + text
		}
	}
	v.outcome.Done = append(v.outcome.Done, change)
}

func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// connections is how many the backend says that it has; −1 where it says nothing.
func (b *backend) connections() int64 {
	switch {
	case b.alone:
		return 1
	case !b.takesNotes:
		return -1
	}
	return int64(b.active)
}

// answerControl answers a service verb with what it has come to.
func (c *connection) answerControl() {
	v := c.control
	c.control = nil
	delete(c.server.controls, c)
	reply, conn := v.outcome.Answer(v.frame, v.request, time.Now()), c.conn
	c.deadline = time.Now().Add(controlReply)
	begun := converse(c, func(context.Context) error {
		_, err := frame.Write(conn, reply)
		return err
	}, func(err error) {
		c.noteWrite(err)
		c.close()
	}, nil)
	if !begun {
		c.close()
	}
}

// controlOverdue answers a service verb whose time is over, or whose broker ends.
func (c *connection) controlOverdue() {
	v := c.control
	if v == nil || c.job != nil { // a file system does not answer, nor can this be answered meanwhile
		c.close()
		return
	}
	if !v.begun {
		v.fail("nothing was begun: which instances there are was not known in time")
	}
	if v.starting > 0 {
		v.fail("what was to take its place is not ready yet: unless it had to end first, the one before serves until it is")
	}
	left := make([]*entry, 0, len(v.ending))
	for e := range v.ending {
		left = append(left, e)
	}
	slices.SortFunc(left, func(a, b *entry) int { return a.PID - b.PID })
	for _, e := range left {
		v.outcome.Failed = true
		v.note(e, admin.Drains, e.Handle.notEnded())
	}
	c.answerControl()
}

// matching are the instances in the registry that a service verb is about.
func (s *server) matching(service, version string) (found []*entry) {
	for _, e := range s.backends.All() {
		if matches(e, service, version) {
			found = append(found, e)
		}
	}
	return found
}

// stopInstances has instances end after their last connection.
func (c *connection) stopInstances() {
	s, v := c.server, c.control
	service, version := v.request.ServiceName, v.request.ServiceVersion
	again, byHand := false, false
	for e := range s.leaving { // of an earlier request
		if matches(e, service, version) {
			v.ending[e] = struct{}{}
		}
	}
	for _, e := range s.matching(service, version) {
		if why := e.Handle.stays(); why != "" {
			v.outcome.Failed = true
			v.note(e, admin.Kept, why)
			continue
		}
		startable := e.Handle.log != "" || e.Handle.own != nil
		again, byHand = again || startable, byHand || !startable
		s.letGo(e, event.AtWill)
		if s.leaving[e] {
			v.ending[e] = struct{}{}
		} else { // it had ended already
			v.note(e, admin.Ended, "")
		}
	}
	for _, starting := range s.starts.pending {
		if matches(starting.entry, service, version) && !starting.late {
			again = true
			s.stopStarting(starting)
			v.ending[starting.entry] = struct{}{}
		}
	}
	for _, e := range s.processes.matching(service, version) {
		again = true
		s.endProcess(e)
		v.ending[e] = struct{}{}
	}
	for _, e := range s.conns.startingProcesses() {
		if matches(e, service, version) {
			again = true
			e.Handle.letGo = true // it ends as soon as it runs, see served
			v.ending[e] = struct{}{}
		}
	}
	if again {
		v.say("the next client starts "+service+" again; usher service pause has clients wait", nil)
	}
	if byHand {
		v.say("what was started by hand is started again by hand", nil)
	}
	if len(v.ending) == 0 {
		if len(v.outcome.Done) == 0 {
			v.say("no instance of "+service+" lives", nil)
		}
		c.answerControl()
	}
}

func matches(e *entry, service, version string) bool {
	return e.Service == service && (version == "" || e.Version == version)
}

// stays says why the backend can't be let go; "" when it can.
func (b *backend) stays() string {
	switch {
	case b.program != nil: // signals end it
		return ""
	case b.channel == nil:
		return "it has no channel to the broker, and can't be told: its process is ended by hand"
	case !b.takesNotes:
		return "its SDK is too old to be told: it is stopped by whoever started it"
	}
	return ""
}

// instanceEnded goes on with what waits for the end of an instance's process.
func (s *server) instanceEnded(e *entry) {
	delete(s.leaving, e)
	for c := range s.controls {
		v := c.control
		if _, waits := v.ending[e]; !waits {
			continue
		}
		delete(v.ending, e)
		e.Handle.active = 0
		v.note(e, admin.Ended, "")
		if len(v.ending) == 0 {
			c.answerControl()
		}
	}
}

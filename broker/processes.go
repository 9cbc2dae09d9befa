package broker

import (
	"time"

	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/window"
)

// This file is the room for processes that have a connection to themselves, and the wait for
// it.

// processes counts those that have a connection to themselves, by service, with those that
// are about to be started. It is the loop's.
type processes struct {
	all       int
	launching int // of them
	of        map[string]int
	begun     *window.Counter[string]
	running   map[*entry]bool // those that have been started, and have not ended
	behind    map[*entry]bool // those that have left something behind which has their pipes
}

func newProcesses() processes {
	return processes{of: make(map[string]int), begun: window.New[string](time.Second), running: make(map[*entry]bool), behind: make(map[*entry]bool)}
}

// matching are the processes that a service verb is about.
func (p *processes) matching(service, version string) (found []*entry) {
	for e := range p.running {
		if matches(e, service, version) {
			found = append(found, e)
		}
	}
	return found
}

func (p *processes) add(service string, n int) {
	p.all += n
	if p.of[service] += n; p.of[service] == 0 {
		delete(p.of, service)
	}
}

// processLaunched notes that one runs which was about to be started, or is not going to.
func (s *server) processLaunched() {
	s.processes.launching--
	s.startsChanged()
}

// full returns how many there may be when there is no room for one more for t, and else 0.
func (p *processes) full(t *target, most int) int {
	switch own := t.start.MaxInstances; {
	case own > 0 && p.of[t.key.Service] >= own:
		return own
	case p.all >= most:
		return most
	}
	return 0
}

// awaitRoom has the connection wait until a process ends, for as long as it would wait for a
// backend.
func (c *connection) awaitRoom(t *target, most int, now time.Time) {
	s := c.server
	switch {
	case s.draining:
		c.refuseAndClose(t.request, hello.ShuttingDown())
	case len(s.waiting.connections[t.key]) >= s.waiting.most:
		c.refuseAndClose(t.request, hello.Full(most))
	default:
		c.waitUntil(now.Add(s.waiting.time), waiter{target: t, full: hello.Full(most)})
	}
}

// stillFull is what the end of that time means.
func (c *connection) stillFull() {
	if t := c.waiter.target; c.server.processes.full(t, c.server.opts.MaxBackends) > 0 {
		c.stopWaiting(c.waiter.full)
		return
	}
	c.resumeWaiting()
}

// roomMade lets one of those go on who wait for room, the first of its service. Where that one
// makes no use of it after all, the next one follows: see connection.close.
func (s *server) roomMade() {
	if c := s.firstWithRoom(); c != nil {
		c.resumeWaiting()
	}
}

func (s *server) firstWithRoom() *connection {
	for _, all := range s.waiting.connections {
		for _, c := range all { // in front of the first may be some who wait for something else
			if c.waiter.full == nil {
				continue
			}
			if s.processes.full(c.waiter.target, s.opts.MaxBackends) == 0 {
				return c
			}
			break
		}
	}
	return nil
}

// resumeWaiting resolves anew a connection that waits.
func (c *connection) resumeWaiting() {
	c.leaveQueue()
	c.resolveAnew()
}

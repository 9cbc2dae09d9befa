package broker

import (
	"time"

	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
)

// byReconnect tells the client which pipe to dial. It leads to every backend.
type byReconnect struct{}

func (byReconnect) leadsTo(*target) bool { return true }

func (byReconnect) deliver(c *connection) { c.reconnectOrWait() }

// reconnectOrWait ends the life of a connection that the broker owns and nobody has read
// from. Where the backend's process has ended meanwhile and there is no other, it waits
// for the next one, as if that end had been known before.
func (c *connection) reconnectOrWait() {
	t := c.offer.target
	if t.backend.Pipe == "" {
		c.refuseAndClose(t.request, hello.NoPipe())
		return
	}
	if !c.reconnect() {
		if c.startAnother(t) || c.waitForBackend(t) {
			return
		}
		c.refuse(t.request, hello.BackendNotRegistered())
	}
	c.close()
}

// reconnect writes the reply without a token: the broker owns the connection. A backend
// that has gone meanwhile is not named, and one that has just proven silent only where
// there is no other. It is false when there is none to name.
func (c *connection) reconnect() bool {
	t := c.offer.target
	if alive := !t.backend.Handle.letGo && t.backend.Handle.seenAlive(); !alive || !t.backend.Handle.sound() {
		// The kernel is asked: a process may have registered twice, and be dead twice.
		other := c.server.find(t, func(e *entry) bool { return e != t.backend && e.Handle.seenAlive() })
		switch {
		case other != nil && (!alive || other.Handle.sound()):
			t.backend = other
		case !alive:
			return false
		}
	}
	t.backend.LastHello = time.Now()
	c.reply(t, grant(t, c.offer.id, nil))
	c.server.emit(event.Reconnected{ConnectionID: c.offer.id})
	c.steps.mark("reply")
	return true
}

func (c *connection) reply(t *target, g hello.Grant) {
	c.answer(hello.ReplyFrame(t.request, g.Reply()))
}

func grant(t *target, id uint64, token []byte) hello.Grant {
	return hello.Grant{
		Version:            t.hello.WantedVersion,
		BackendPipe:        t.backend.Pipe,
		ServerCapabilities: frame.CapUsher,
		Keepalive:          t.hello.ClientKeepaliveSecs,
		Token:              token,
		ConnectionID:       id,
	}
}

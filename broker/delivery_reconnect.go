package broker

import (
	"time"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
)

// byReconnect tells the client which pipe to dial. It leads to every backend.
type byReconnect struct{}

func (byReconnect) leadsTo(*target) bool { return true }

func (byReconnect) deliver(c *connection) {
	c.reconnect()
	c.finish()
}

// reconnect writes the reply without a token: the broker owns the connection. A backend
// that has gone meanwhile is not named, and one that has just proven silent only where
// there is no other.
func (c *connection) reconnect() {
	t := c.offer.target
	if alive := t.backend.Handle.process.Alive(); !alive || !t.backend.Handle.sound() {
		// The kernel is asked: a process may have registered twice, and be dead twice.
		other := c.find(t, func(e *entry) bool { return e != t.backend && e.Handle.process.Alive() })
		switch {
		case other != nil && (!alive || other.Handle.sound()):
			t.backend = other
		case !alive:
			c.refuse(t.request, hello.BackendNotRegistered())
			return
		}
	}
	t.backend.MarkHello(time.Now())
	c.counters.reconnected.Add(1)
	c.reply(t, grant(t, c.offer.id, nil))
	c.steps.mark("reply")
}

func (c *connection) reply(t *target, g hello.Grant) {
	c.answer(hello.ReplyFrame(t.request, g.Reply()))
}

func grant(t *target, id uint64, token []byte) hello.Grant {
	return hello.Grant{
		Version:            t.backend.Version,
		BackendPipe:        t.backend.Pipe,
		ServerCapabilities: frame.CapUsher,
		Keepalive:          t.hello.ClientKeepaliveSecs,
		Token:              token,
		ConnectionID:       id,
	}
}

package broker

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/splice"
)

// byRelay leads to a program that has a listener of its own and takes no connection but from
// there. Who said Hello is sent to its socket, where it has a path. Who knows nothing of
// usher, and whoever wants a program on a TCP port, is joined to a connection of the
// broker's: the only ones whose bytes pass through it, and which end with it.
type byRelay struct{}

func (byRelay) leadsTo(t *target) bool { return t.start != nil && t.start.Mode == service.Relay }

func (byRelay) deliver(c *connection) {
	s, o := c.server, &c.offer
	t := o.target
	address := t.start.Address
	if !c.plain && filepath.IsAbs(address) {
		c.reconnectOrWait()
		return
	}
	if s.joined.relays >= s.opts.MaxRelays {
		c.refuseAndClose(t.request, hello.RelaysFull(s.opts.MaxRelays))
		return
	}
	var first []byte
	if !c.plain {
		var err error
		if first, err = firstWords(t, o.id); err != nil {
			c.refuseAndClose(t.request, hello.StartFailed(err.Error(), 0))
			return
		}
	}
	t.backend.LastHello = time.Now()
	s.joined.relays++
	c.enter(phaseOffered, c.deadline)
	if c.plain && t.backend.Handle.local && filepath.IsAbs(address) {
		if far, err := endpoint.DialNow(address); err == nil { // else the job waits for room, or says why
			c.relay(relaying{far: far})
			return
		}
	}
	conn, patience := c.conn, s.opts.AckDeadline
	begun := offload(c, false, func(ctx context.Context) relaying {
		ctx, cancel := context.WithTimeout(ctx, patience) // its queue may be full, and nobody there who empties it
		defer cancel()
		far, err := dialProgram(ctx, address)
		if err != nil {
			return relaying{err: err}
		}
		if len(first) > 0 {
			if _, err := sendNow(conn, first); err != nil {
				_ = far.Close()
				return relaying{err: err, answered: true}
			}
		}
		return relaying{far: far}
	}, c.relay, func(r relaying) { s.relayEnded(); r.close() })
	if !begun {
		s.relayEnded()
		c.refuseAndClose(t.request, hello.ShuttingDown())
	}
}

// relaying is the result of the job that connects to the program.
type relaying struct {
	far      splice.Conn
	answered bool // the client may have been told that it is served
	err      error
}

func (r relaying) close() {
	if r.far != nil {
		_ = r.far.Close()
	}
}

// relay joins both connections.
func (c *connection) relay(r relaying) {
	s, t := c.server, c.offer.target
	if c.plain && c.passFrame(t.request) { // nothing has been said yet, and here the broker would have to stay for it
		s.relayEnded()
		r.close()
		return
	}
	if r.err != nil {
		s.relayEnded()
		t.backend.LastError = r.err.Error()
		if !r.answered && !t.backend.Handle.seenAlive() && c.startAnother(t) {
			return
		}
		if !r.answered {
			c.refuse(t.request, hello.StartFailed(fmt.Sprintf("%s, process %d, does not answer: %v", t.key.Service, t.backend.PID, r.err), 0))
		}
		c.close()
		return
	}
	s.emit(event.Relayed{ConnectionID: c.offer.id, Backend: known(t.backend)})
	near := c.conn
	c.given = true
	c.close()
	t.backend.Handle.relayed++
	s.join(near, r.far, t.backend)
}

// dialProgram connects to where a program listens: a path, whose listener must be the user's,
// or a port of the loopback.
func dialProgram(ctx context.Context, address string) (splice.Conn, error) {
	if filepath.IsAbs(address) {
		c, err := endpoint.Dial(ctx, address)
		if err != nil {
			return nil, err
		}
		return c, nil
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

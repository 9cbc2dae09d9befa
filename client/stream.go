package client

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-7265657e/usher/internal/remote"
	"github.com/seed-7265657e/usher/internal/sock"
)

// stream is the state of a Conn, from before the broker is asked to the end.
//
//	unasked ──the first byte of Hello──▶ asked ──a backend──▶ settled
//	   │                                   │                     │
//	   ├──────────no backend──▶ failed ◀───┘                     │
//	   │                           │                             │
//	   └─────────────────────────Close───────────────────────────┴──▶ closed
//
// Until the stream is settled, one call at a time has the turn: it drives the exchange
// as far as it needs and its deadline allows. The others wait for the turn, each until
// its own deadline. Once the stream is settled, calls go to the socket.
type stream struct {
	*dialing
	writesFirst bool      // a Read waits for somebody else to ask
	x           *exchange // used by the call that has the turn
	outcome     outcome

	opened    atomic.Pointer[opened] // set when settled
	unreadSet atomic.Bool            // unread is not empty

	mu         sync.Mutex // guards what follows; not held across a call that can block
	state      state
	why        error           // failed: what to say about it
	sock       *sock.Conn      // nil before the first
	ssh        *remote.Process // carries sock from another host; nil on this one
	early      bool            // the caller's bytes go along with Hello
	flushed    bool            // all that is to be sent before the verdict has gone to sock
	readClosed bool            // the caller reads no more
	halfClosed bool            // the caller has ended its direction, perhaps before sock was there
	unread     []byte          // read from sock behind the verdict, and not yet by the caller
	waits      waits
	endStart   context.CancelFunc // of the broker that is being started
}

type state uint8

const (
	unasked state = iota
	asked
	settled
	failed
	closed
)

// opened is a connection to a backend.
type opened struct {
	conn     *sock.Conn
	unread   []byte // read from conn already
	route    Route
	endpoint string
	version  string
	id       uint64
}

// info is what is known about the backend: nothing, until there is one.
func (s *stream) info() opened {
	if o := s.opened.Load(); o != nil {
		return *o
	}
	return opened{}
}

// use makes c the socket, and owns it. On a closed stream it is closed.
func (s *stream) use(c *sock.Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == closed {
		_ = c.Close()
		return net.ErrClosed
	}
	s.sock, s.flushed, s.waits.armed = c, false, false
	return nil
}

// drop closes the socket, which did not lead to a backend.
func (s *stream) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropLocked()
}

func (s *stream) dropLocked() {
	if s.endStart != nil {
		s.endStart()
		s.endStart = nil
	}
	if s.sock != nil {
		_ = s.sock.Close()
	}
	if s.ssh != nil {
		patience := time.Duration(0)
		if s.opened.Load() != nil {
			patience = closePatience
		}
		s.ssh.End(patience)
		s.ssh = nil
	}
	s.sock, s.flushed, s.waits.armed = nil, false, false
}

// begin records that something has been sent. flush says that everything before the
// verdict has, so that the caller's direction may end behind it.
func (s *stream) begin(early, flush bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == unasked {
		s.state, s.early = asked, early
	}
	if s.flushed = flush; flush && s.halfClosed && s.sock != nil {
		_ = s.sock.CloseWrite()
	}
}

// settle makes the socket the connection that stays, with the caller's deadlines.
func (s *stream) settle(o *opened) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == closed {
		return // and so is the socket
	}
	o.conn = s.sock
	s.state, s.x = settled, nil
	s.unread, o.unread = o.unread, nil
	s.unreadSet.Store(len(s.unread) > 0)
	if w := &s.waits; w.armed || !w.read.IsZero() {
		_ = o.conn.SetReadDeadline(w.read)
	}
	if w := &s.waits; w.armed || !w.write.IsZero() {
		_ = o.conn.SetWriteDeadline(w.write)
	}
	s.opened.Store(o)
}

// fail ends the stream. why is what later calls are told.
func (s *stream) fail(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropLocked()
	if s.state != closed {
		s.state, s.why, s.x = failed, why, nil
	}
}

func (s *stream) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == closed {
		return opError("close", net.ErrClosed)
	}
	s.state = closed
	s.waits.notify()
	s.dropLocked()
	return nil
}

// await returns the settled connection, or why there is none for this caller.
func (s *stream) await(c *caller) (*opened, error) {
	if o := s.opened.Load(); o != nil {
		return o, nil
	}
	if err := s.take(c); err != nil {
		return nil, s.callerError(c, err)
	}
	defer s.leave()
	if err := s.run(c, settled); err != nil {
		return nil, s.callerError(c, err)
	}
	return s.opened.Load(), nil
}

func (s *stream) current() state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

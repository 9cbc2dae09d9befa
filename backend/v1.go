package backend

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/loop"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wire"
)

const (
	// v1Timeout bounds one v1 exchange (spec 02 §6).
	v1Timeout = 5 * time.Second
	// v1AtOnce bounds the v1 exchanges under way. A v1 broker sends one at a
	// time; the others keep it working while a silent connection times out.
	v1AtOnce = 8
)

// handoffs is the endpoint on which a plain v1 broker hands connections over. It is the
// loop's.
type handoffs struct {
	acceptor *loop.Acceptor // nil without HandoffEndpoint
	underWay int            // exchanges, at most v1AtOnce
}

// openV1 serves the handoff endpoint, where there is one.
func (l *Listener) openV1() error {
	if l.v1 == nil {
		return nil
	}
	from, err := l.v1.Accepting()
	if err == nil {
		l.handoffs.acceptor = loop.NewAcceptor(l.loop, from, l.acceptV1)
	}
	return err
}

// watchV1 has the loop accept, unless v1AtOnce exchanges are under way: who comes then waits
// in the kernel's backlog.
func (l *Listener) watchV1() {
	if l.handoffs.acceptor != nil && !l.closing && l.handoffs.underWay < v1AtOnce {
		l.handoffs.acceptor.Start()
	}
}

// tickV1 accepts again where that is due, and returns when it is.
func (l *Listener) tickV1(now time.Time) (next time.Time) {
	if l.handoffs.acceptor == nil {
		return time.Time{}
	}
	return l.handoffs.acceptor.Tick(now)
}

// closeV1 refuses who comes from now on.
func (l *Listener) closeV1() {
	if l.handoffs.acceptor != nil {
		l.handoffs.acceptor.Stop()
		_ = l.handoffs.acceptor.Shutdown() // it is closed soon
	}
}

func (l *Listener) acceptV1() {
	h := &l.handoffs
	c, err := h.acceptor.Accept()
	switch {
	case err == nil:
		h.acceptor.Accepted()
		if h.underWay++; h.underWay == v1AtOnce {
			h.acceptor.Stop()
		}
		l.wg.Go(func() {
			if err := l.adoptV1(c); err != nil {
				l.opts.Logger.Info("v1 handoff not adopted", "error", err)
			}
			l.loop.Post(func() {
				h.underWay--
				l.watchV1()
			})
		})
	case errors.Is(err, errno.EAGAIN):
	default: // a full descriptor table passes
		l.opts.Logger.Warn("accept on handoff endpoint failed", "error", err)
		h.acceptor.Pause()
	}
}

// adoptV1 follows spec 02 §8. It owns c.
//
// The 16 bytes beside the descriptor are taken as the expected token (§15). On Windows there
// are none, and the offer names a handle of this process (§11), which is taken where the broker
// can have put it there, and closed when the offer is rejected; any other one is left alone.
func (l *Listener) adoptV1(c *sock.Conn) error {
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(v1Timeout)); err != nil {
		return err
	}
	stop := context.AfterFunc(l.ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := ownUser(c); err != nil {
		return err
	}
	offer, fds, fault, err := receiveV1(c)
	if err != nil {
		return err
	}
	failpoint.Hit(failpoint.BackendReceived)
	var conn *Conn
	if fault == nil {
		conn, fault = l.placeV1(&fds)
	}
	fds.Close() // before the broker knows
	ack := &wire.HandoffAck{Token: offer.Token, CorrelationId: offer.CorrelationId, Accepted: fault == nil}
	if fault != nil {
		ack.ErrorDetail = fault.Error()
	}
	if _, err := frame.Write(c, frame.HandoffAck(ack)); err != nil && fault == nil {
		l.opts.Logger.Info("v1 broker gone before the ACK", "error", err)
	}
	if fault != nil {
		return fault
	}
	failpoint.Hit(failpoint.BackendAcked)
	l.giveV1(conn)
	return nil
}

// giveV1 gives a connection to Accept. Where it was duplicated, that is not before its client
// has said something, and so has had the broker's ready event: what is to wait in the
// runtime's poller binds the file behind the pipe, which is the broker's too, to a completion
// port, and the reference writes that event by a call that fails from then on (WriteFileEx).
func (l *Listener) giveV1(conn *Conn) {
	given := sock.ByNumber && l.loop.Post(func() {
		if !l.await(conn, time.Time{}, func(conn *Conn) { l.enqueue(conn, nil) }) {
			l.enqueue(conn, nil)
		}
	})
	if !given {
		l.queue.put(conn)
	}
}

// receiveV1 reads an offer, and returns with it the connection, which the caller closes.
// fault is why the offer is to be rejected; after an error there is no answer at all.
func receiveV1(c *sock.Conn) (offer *wire.HandoffOffer, fds sock.Descriptors, fault, err error) {
	var expected []byte
	if !sock.ByNumber {
		if expected, fds, err = receiveBeside(c); err != nil {
			return nil, fds, nil, err
		}
	}
	f, _, err := frame.Read(c, frame.MaxHelloBody)
	if err == nil {
		offer, err = frame.ParseHandoffOffer(f)
	}
	if err != nil {
		fds.Close()
		return nil, fds, nil, err
	}
	if sock.ByNumber {
		expected = offer.Token // nothing else tells
		fds, fault = sock.TakeHandle(c, offer.HandleValue)
	}
	if err := checkToken(offer, expected); err != nil {
		fault = err
	}
	return offer, fds, fault, nil
}

func checkToken(offer *wire.HandoffOffer, expected []byte) error {
	switch {
	case len(offer.Token) == 0:
		return errors.New("handoff token is missing")
	case len(offer.Token) != tokenSize:
		return fmt.Errorf("handoff token length was %d bytes; expected %d", len(offer.Token), tokenSize)
	case subtle.ConstantTimeCompare(offer.Token, expected) != 1:
		return errors.New("handoff token mismatch")
	}
	return nil
}

// placeV1 checks the connection, reserves a place in the accept queue and returns the
// connection to queue.
func (l *Listener) placeV1(fds *sock.Descriptors) (*Conn, error) {
	conn, err := checkedConn(fds)
	if err != nil {
		return nil, err
	}
	if !l.queue.reserve() {
		_ = conn.Close()
		return nil, errors.New("accept queue is full")
	}
	c := l.newConn(conn, true)
	c.placed = true
	return c, nil
}

// receiveBeside reads the token bytes and exactly one descriptor beside them. The
// caller closes the descriptors.
func receiveBeside(c *sock.Conn) (token []byte, fds sock.Descriptors, err error) {
	token = make([]byte, tokenSize)
	m, err := sock.Receive(c, token)
	if err = errors.Join(err, m.Fault); err == nil {
		switch {
		case m.FDs.Len() != 1:
			err = errors.New("v1 handoff needs exactly one descriptor")
		case m.N == 0:
			err = io.ErrUnexpectedEOF
		case m.N < tokenSize:
			_, err = io.ReadFull(c, token[m.N:])
		}
	}
	if err != nil {
		m.FDs.Close()
	}
	return token, m.FDs, err
}

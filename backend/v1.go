package backend

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

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
	case errors.Is(err, syscall.EAGAIN):
	default: // a full descriptor table passes
		l.opts.Logger.Warn("accept on handoff endpoint failed", "error", err)
		h.acceptor.Pause()
	}
}

// adoptV1 follows spec 02 §8. The 16 bytes beside the descriptor are taken as
// the expected token (§15). It owns c.
func (l *Listener) adoptV1(c *sock.Conn) error {
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(v1Timeout)); err != nil {
		return err
	}
	stop := context.AfterFunc(l.ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	expected, fds, err := receiveV1(c)
	if err != nil {
		return err
	}
	defer fds.Close()
	f, _, err := frame.Read(c, frame.MaxHelloBody)
	if err != nil {
		return err
	}
	offer, err := frame.ParseHandoffOffer(f)
	if err != nil {
		return err
	}
	conn, err := l.judgeV1(offer, expected, fds)
	ack := &wire.HandoffAck{Token: offer.Token, CorrelationId: offer.CorrelationId, Accepted: err == nil}
	if err != nil {
		ack.ErrorDetail = err.Error()
	}
	if _, writeErr := frame.Write(c, frame.HandoffAck(ack)); writeErr != nil && err == nil {
		l.opts.Logger.Info("v1 broker gone before the ACK", "error", writeErr)
	}
	if err != nil {
		return err
	}
	l.queue.put(conn)
	return nil
}

// judgeV1 checks token and descriptor, reserves a place in the accept queue and
// returns the connection to queue.
func (l *Listener) judgeV1(offer *wire.HandoffOffer, expected [tokenSize]byte, fds *sock.Descriptors) (*Conn, error) {
	switch {
	case len(offer.Token) == 0:
		return nil, errors.New("handoff token is missing")
	case len(offer.Token) != tokenSize:
		return nil, fmt.Errorf("handoff token length was %d bytes; expected %d", len(offer.Token), tokenSize)
	case subtle.ConstantTimeCompare(offer.Token, expected[:]) != 1:
		return nil, errors.New("handoff token mismatch")
	}
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

// receiveV1 reads the token bytes and exactly one descriptor beside them. The
// caller closes the descriptors.
func receiveV1(c *sock.Conn) (token [tokenSize]byte, fds *sock.Descriptors, err error) {
	if err := ownUser(c); err != nil {
		return token, nil, err
	}
	m, err := sock.Receive(c, token[:])
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
		return token, nil, err
	}
	return token, &m.FDs, nil
}

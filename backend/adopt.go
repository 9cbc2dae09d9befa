package backend

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/seed-7265657e/usher/internal/channel"
	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/fdpass"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/usherpb"
)

// This file is step 6 of a connection's life, adopt:
//
//	receive   bytes and descriptors, counted before anything is read
//	check     message, kinds of descriptors, user at the other end
//	claim     whoever takes it owns the connection; not we: close, unread
//	reply     HelloReply and ready event, prepared by the broker, as our first bytes
//	queue     for Accept
//	ack       on the channel; nobody waits for it
//
// Every message is answered, a damaged one too, or the broker would wait for
// its deadline.

// replyTimeout bounds the write of a few hundred bytes into an empty socket
// buffer: it waits for nothing but is not trusted to.
const replyTimeout = time.Second

// descriptors of an offer, in their order.
const (
	connFD = iota
	claimFD
	offerFDs
)

// offered is one connection that has been checked but not claimed. It owns what
// it holds.
type offered struct {
	offer *usherpb.Offer
	conn  *net.UnixConn
	claim *claim.Claim
}

// close gives the connection up unread. It must not shut it down: it may be
// somebody else's by now.
func (o *offered) close() {
	_ = o.conn.Close()
	o.claim.Close()
}

// nack is why an offer is not adopted.
type nack struct {
	reason usherpb.NackReason
	err    error
	// retire says that the channel can't be trusted any more.
	retire bool
}

// serveChannel adopts what arrives on ch until the channel ends, and closes it.
func (l *Listener) serveChannel(ch *channel.Conn) error {
	defer func() { _ = ch.Close() }()
	for {
		msg, err := ch.Recv()
		if err != nil {
			if errors.Is(err, channel.ErrProtocol) {
				_ = answer(ch, &usherpb.Ack{Reason: usherpb.NackReason_NACK_REASON_REJECTED, Detail: err.Error()})
			}
			return err
		}
		failpoint.Hit(failpoint.BackendReceived)
		if err := l.adopt(ch, msg); err != nil {
			return err
		}
	}
}

// adopt takes one message through the steps. It returns an error when the
// channel must end.
func (l *Listener) adopt(ch *channel.Conn, msg channel.Message) error {
	defer msg.FDs.Close()
	ack := &usherpb.Ack{}
	o, no := l.check(&msg, ack)
	if no == nil {
		failpoint.Hit(failpoint.BackendChecked)
		no = l.take(o)
	}
	if no != nil {
		ack.Reason, ack.Detail = no.reason, no.err.Error()
		err := answer(ch, ack) // before the log, whose reader may be slow
		l.opts.Logger.Info("handoff not adopted", "reason", no.reason.String(), "error", no.err)
		if no.retire {
			return errors.Join(no.err, err)
		}
		return nil // an answer that did not go out is what the claim is for
	}
	ack.Accepted = true
	_ = answer(ch, ack)
	failpoint.Hit(failpoint.BackendAcked)
	return nil
}

// check judges a message without reading the connection in it. It fills into
// ack which offer is being answered, as far as that could be read.
func (l *Listener) check(msg *channel.Message, ack *usherpb.Ack) (*offered, *nack) {
	f, frameErr := msg.Frame()
	var offer *usherpb.Offer
	if frameErr == nil {
		offer, frameErr = frame.ParseChannelOffer(f)
	}
	if frameErr == nil {
		ack.HandoffId = offer.HandoffId
		if len(offer.Token) <= maxEcho {
			ack.Token = offer.Token
		}
	}
	switch {
	case msg.FDs.Len() > offerFDs:
		return nil, &nack{usherpb.NackReason_NACK_REASON_DESCRIPTORS, fmt.Errorf("%d descriptors arrived, not %d", msg.FDs.Len(), offerFDs), true}
	case msg.Fault != nil:
		return nil, &nack{usherpb.NackReason_NACK_REASON_DESCRIPTORS, msg.Fault, false}
	case msg.FDs.Len() < offerFDs:
		return nil, &nack{usherpb.NackReason_NACK_REASON_DESCRIPTORS, fmt.Errorf("%d descriptors arrived, not %d", msg.FDs.Len(), offerFDs), false}
	case frameErr != nil:
		return nil, &nack{usherpb.NackReason_NACK_REASON_REJECTED, frameErr, false}
	case len(offer.Token) != tokenSize || len(offer.Preamble) == 0:
		return nil, &nack{usherpb.NackReason_NACK_REASON_REJECTED, errors.New("token or preamble missing"), false}
	}
	conn, err := checkedConn(&msg.FDs)
	if err != nil {
		return nil, &nack{usherpb.NackReason_NACK_REASON_DESCRIPTORS, err, false}
	}
	c, err := claim.Receive(msg.FDs.Borrow(claimFD))
	if err != nil {
		_ = conn.Close()
		return nil, &nack{usherpb.NackReason_NACK_REASON_DESCRIPTORS, err, false}
	}
	msg.FDs.Take(claimFD) // the claim owns it now
	return &offered{offer: offer, conn: conn, claim: c}, nil
}

const (
	tokenSize = 16
	// maxEcho keeps an answer, which shows the token as presented, smaller than
	// its offer: it must fit the channel too.
	maxEcho = 2 * tokenSize
)

// checkedConn takes the connection out of fds when it is what an offer must
// carry: a connected Unix stream of this user. It neither reads nor writes.
func checkedConn(fds *fdpass.Descriptors) (*net.UnixConn, error) {
	fd := fds.Borrow(connFD)
	if err := fdpass.CheckConnection(fd); err != nil {
		return nil, err
	}
	cred, err := peer.Of(fd)
	if err != nil {
		return nil, err
	}
	if err := cred.CheckUser(os.Geteuid()); err != nil {
		return nil, err
	}
	return connOf(fds.Take(connFD))
}

// take claims the connection, writes the first bytes and queues it. After the
// claim there is no way back: whatever fails then, the answer is an ACK.
func (l *Listener) take(o *offered) *nack {
	if !l.reserve() {
		o.close()
		if l.closed() {
			return &nack{usherpb.NackReason_NACK_REASON_CLOSING, net.ErrClosed, false}
		}
		return &nack{usherpb.NackReason_NACK_REASON_BUSY, errors.New("accept queue is full"), false}
	}
	won, err := o.claim.Take()
	if err != nil || !won {
		l.unreserve()
		o.close()
		if err == nil {
			err = errors.New("the broker took the connection back")
		}
		return &nack{usherpb.NackReason_NACK_REASON_CLAIM_LOST, err, false}
	}
	failpoint.Hit(failpoint.BackendClaimed)
	o.claim.Close()
	conn := newConn(o.conn, true)
	if err := writeFirst(o.conn, o.offer.Preamble); err != nil {
		// The client has gone; the connection ends here, with it.
		l.opts.Logger.Info("client gone before adoption", "connection_id", o.offer.ConnectionId, "error", err)
		l.unreserve()
		_ = conn.Close()
		return nil
	}
	failpoint.Hit(failpoint.BackendReplied)
	l.queue(conn)
	return nil
}

func writeFirst(c *net.UnixConn, preamble []byte) error {
	if err := c.SetWriteDeadline(time.Now().Add(replyTimeout)); err != nil {
		return err
	}
	if _, err := c.Write(preamble); err != nil {
		return err
	}
	return c.SetWriteDeadline(time.Time{})
}

func answer(ch *channel.Conn, ack *usherpb.Ack) error {
	msg, err := frame.Append(nil, frame.ChannelAck(ack))
	if err != nil {
		return err
	}
	return ch.Send(msg)
}

package backend

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wire"
)

// This file is step 7 of a connection's life, adopt:
//
//	receive   bytes and descriptors, counted before anything is read
//	check     message, kinds of descriptors, user at the other end
//	claim     whoever takes it owns the connection; not we: close, unread
//	early     the first of the bytes that the client sent along with its Hello, if it did
//	ack       in the page of claims, else on the channel; nobody waits for it
//	reply     HelloReply and ready event, prepared by the broker, as our first bytes;
//	          the answer to early bytes follows in the same write
//	queue     for Accept
//
// Nothing is written before the ACK. So of a process that died without one, whose
// connection has as many bytes unread as were declared, the broker knows that it read
// nothing and wrote nothing. An ACK after the answer would not do: the client may have
// sent its next request by then, as long as the first.
//
// Every message is answered, a damaged one too, or the broker would wait for
// its deadline.

// replyTimeout bounds the wait for early bytes that have been announced, and for
// room for an inline answer.
var replyTimeout = time.Second

// descriptors of an offer, in their order.
const (
	connFD = iota
	claimFD
	offerFDs
)

// offered is one connection that has been checked but not claimed. It owns what
// it holds.
type offered struct {
	offer *wire.Offer
	conn  *sock.Conn
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
	reason wire.NackReason
	err    error
	// retire says that the channel can't be trusted any more.
	retire bool
}

// adopt takes one message through the steps. It returns an error when the
// channel must end.
func (l *Listener) adopt(ch *brokerChannel, msg sock.Message) error {
	defer msg.FDs.Close()
	ack := &wire.Ack{}
	f, err := msg.Frame()
	if err == nil {
		if note := frame.ParseChannelNote(f); note != nil {
			l.noted(ch, note)
			return nil
		}
	}
	if err == nil && frame.UnknownOnChannel(f, wire.FrameKind_FRAME_KIND_REQUEST) {
		ack.Reason, ack.Detail = wire.NackReason_NACK_REASON_UNSUPPORTED, fmt.Sprintf("%s of protocol %#x is not known", f.Kind, f.PayloadProtocol)
		_ = answer(ch.Channel, ack)
		l.opts.Logger.Info("message from the broker ignored", "reason", ack.Detail)
		return nil
	}
	o, no := l.check(&msg, f, err, ch.page, ack)
	if no == nil {
		failpoint.Hit(failpoint.BackendChecked)
		no = l.claim(o, ch, ack)
	}
	if no != nil {
		ack.Reason, ack.Detail = no.reason, no.err.Error()
		err := answer(ch.Channel, ack) // before the log, whose reader may be slow
		l.opts.Logger.Info("handoff not adopted", "reason", no.reason.String(), "error", no.err)
		if no.retire {
			return errors.Join(no.err, err)
		}
		return nil // an answer that did not go out is what the claim is for
	}
	return nil
}

// check judges a message, which is the frame f unless frameErr says why not, without
// reading the connection in it. It fills into ack which offer is being answered, as far
// as that could be read.
func (l *Listener) check(msg *sock.Message, f *wire.Frame, frameErr error, page *claim.Page, ack *wire.Ack) (*offered, *nack) {
	var offer *wire.Offer
	if frameErr == nil {
		offer, frameErr = frame.ParseChannelOffer(f)
	}
	if frameErr == nil {
		ack.HandoffId = offer.HandoffId
		if len(offer.Token) <= maxEcho {
			ack.Token = offer.Token
		}
	}
	want := offerFDs
	if offer != nil && offer.ClaimGeneration != 0 {
		want--
	}
	switch {
	case msg.FDs.Len() > want:
		return nil, &nack{wire.NackReason_NACK_REASON_DESCRIPTORS, fmt.Errorf("%d descriptors arrived, not %d", msg.FDs.Len(), want), true}
	case msg.Fault != nil:
		return nil, &nack{wire.NackReason_NACK_REASON_DESCRIPTORS, msg.Fault, false}
	case msg.FDs.Len() < want:
		return nil, &nack{wire.NackReason_NACK_REASON_DESCRIPTORS, fmt.Errorf("%d descriptors arrived, not %d", msg.FDs.Len(), want), false}
	case frameErr != nil:
		return nil, &nack{wire.NackReason_NACK_REASON_REJECTED, frameErr, false}
	case len(offer.Token) != tokenSize || len(offer.Preamble) == 0:
		return nil, &nack{wire.NackReason_NACK_REASON_REJECTED, errors.New("token or preamble missing"), false}
	}
	conn, err := checkedConn(&msg.FDs)
	if err != nil {
		return nil, &nack{wire.NackReason_NACK_REASON_DESCRIPTORS, err, false}
	}
	c, err := receiveClaim(&msg.FDs, page, offer)
	if err != nil {
		_ = conn.Close()
		return nil, &nack{wire.NackReason_NACK_REASON_DESCRIPTORS, err, false}
	}
	return &offered{offer: offer, conn: conn, claim: c}, nil
}

// receiveClaim finds the claim in the page, or takes it out of fds.
func receiveClaim(fds *sock.Descriptors, page *claim.Page, offer *wire.Offer) (*claim.Claim, error) {
	if offer.ClaimGeneration == 0 {
		return claim.Receive(fds.Take(claimFD))
	}
	if page == nil {
		return nil, errNoPage
	}
	return page.Claim(offer.ClaimWord, offer.ClaimGeneration)
}

var errNoPage = errors.New("the offer names a page of claims, and the channel has none")

const (
	tokenSize = 16
	// maxEcho keeps an answer, which shows the token as presented, smaller than
	// its offer: it must fit the channel too.
	maxEcho = 2 * tokenSize
)

// checkedConn takes the connection out of fds when it is what an offer must
// carry: a connected Unix stream of this user. It neither reads nor writes.
func checkedConn(fds *sock.Descriptors) (*sock.Conn, error) {
	if err := fds.CheckConnection(connFD); err != nil {
		return nil, err
	}
	cred, err := fds.PeerOf(connFD)
	if err != nil {
		return nil, err
	}
	if err := cred.CheckUser(os.Geteuid()); err != nil {
		return nil, err
	}
	return fds.TakeConn(connFD), nil
}

// claim takes the claim, and with it the connection, through the steps that are left. After the claim there is no
// way back: whatever fails then, the answer is an ACK.
func (l *Listener) claim(o *offered, ch *brokerChannel, ack *wire.Ack) *nack {
	if l.ctx.Err() != nil || ch.leaving.Load() {
		o.close()
		return &nack{wire.NackReason_NACK_REASON_CLOSING, net.ErrClosed, false}
	}
	if !l.queue.reserve() {
		o.close()
		return &nack{wire.NackReason_NACK_REASON_BUSY, errors.New("accept queue is full"), false}
	}
	won, err := o.claim.Take()
	if err != nil || !won {
		l.queue.release()
		o.close()
		if err == nil {
			err = errors.New("the broker took the connection back")
		}
		return &nack{wire.NackReason_NACK_REASON_CLAIM_LOST, err, false}
	}
	failpoint.Hit(failpoint.BackendClaimed)
	conn := l.newConn(o.conn, true)
	conn.placed = true
	conn.ack = newPendingAck(o.claim, ch, ack)
	conn.sock.Prefix(o.offer.Preamble)
	if o.offer.EarlyDataLen > 0 {
		l.readEarly(conn, o.offer)
		return nil
	}
	conn.acknowledge()
	if err := conn.sock.Flush(); err != nil {
		l.lostClient(conn, o.offer, err)
		return nil
	}
	failpoint.Hit(failpoint.BackendReplied)
	if l.opts.Inline == nil || !l.await(conn, time.Time{}, l.firstBytes) {
		l.enqueue(conn, nil)
	}
	return nil
}

// lostClient ends a connection whose client has gone, with it.
func (l *Listener) lostClient(conn *Conn, offer *wire.Offer, err error) {
	l.opts.Logger.Info("client gone before adoption", "connection_id", offer.ConnectionId, "error", err)
	l.drop(conn)
}

// readEarly reads what the client sent along with its Hello, and acknowledges when it
// has some of it. A client that promised bytes and does not send them gets no answer.
func (l *Listener) readEarly(conn *Conn, offer *wire.Offer) {
	early := l.scratch[:min(uint64(offer.EarlyDataLen), uint64(len(l.scratch)))]
	n, err := conn.sock.TryRead(early)
	switch {
	case err == nil:
		failpoint.Hit(failpoint.BackendRead)
		conn.acknowledge()
		l.first(conn, early[:n])
	case !errors.Is(err, errno.EAGAIN):
		l.lostClient(conn, offer, err)
	case !l.await(conn, time.Now().Add(replyTimeout), func(conn *Conn) { l.readEarly(conn, offer) }):
		conn.acknowledge() // the application will wait for them
		l.enqueue(conn, nil)
	}
}

package backend

import (
	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wire"
)

// pendingAck is the acknowledgement of a connection that has been claimed; the zero
// value is none. It owns the claim.
type pendingAck struct {
	claim   *claim.Claim
	channel *brokerChannel // retained: the claim may be in its page
	message *wire.Ack      // for a broker that doesn't find it in the page
}

func newPendingAck(c *claim.Claim, ch *brokerChannel, message *wire.Ack) pendingAck {
	message.Accepted = true
	ch.retain()
	return pendingAck{c, ch, message}
}

// acknowledge tells the broker that the connection has been adopted, once. It comes
// before anything is written. Where it can't be told, its channel having ended, the
// connection is ours all the same.
func (c *Conn) acknowledge() {
	ack := c.ack
	if ack.claim == nil {
		return
	}
	c.ack = pendingAck{}
	if !ack.claim.Acknowledge() {
		_ = answer(ack.channel.Channel, ack.message)
	}
	ack.claim.Close()
	ack.channel.release()
	failpoint.Hit(failpoint.BackendAcked)
}

func answer(ch *sock.Channel, ack *wire.Ack) error {
	msg, err := frame.Append(nil, frame.ChannelAck(ack))
	if err != nil {
		return err
	}
	return ch.Send(msg)
}

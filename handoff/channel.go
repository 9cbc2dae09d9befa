package handoff

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/seed-7265657e/usher/internal/channel"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/usherpb"
)

// Channel is usher's transport to one backend process: offer, connection and
// claim in one sendmsg, answered on the same channel (docs/protocol.md, section
// "Channel"). Its end means that the backend is gone for handoffs; whether the
// process is gone is another question.
type Channel struct {
	conn *channel.Conn
	done chan struct{} // closed when no answer can come any more

	lastID atomic.Uint64
	strays atomic.Uint64

	mu      sync.Mutex
	waiting map[uint64]*channelDelivery // by handoff id; nil once done is closed
}

// NewChannel makes a channel and returns with it the far end, which the caller
// gives to the backend and then closes. The caller runs Serve in a goroutine,
// and ends it with Close.
func NewChannel() (ch *Channel, far int, err error) {
	conn, far, err := channel.Pair()
	if err != nil {
		return nil, -1, err
	}
	return newChannel(conn), far, nil
}

func newChannel(conn *channel.Conn) *Channel {
	return &Channel{conn: conn, done: make(chan struct{}), waiting: make(map[uint64]*channelDelivery)}
}

// Stream reports whether the channel is a byte stream, for want of
// SOCK_SEQPACKET.
func (c *Channel) Stream() bool { return c.conn.Kind() == channel.Stream }

// Serve delivers the backend's answers until the channel ends, then closes it.
// It returns nil after Close or when the backend is gone, else what the backend
// did wrong.
func (c *Channel) Serve() error {
	defer c.retire()
	for {
		msg, err := c.conn.Recv()
		if err != nil {
			if errors.Is(err, channel.ErrProtocol) {
				return err
			}
			return nil
		}
		if msg.FDs.Len() > 0 { // a backend has no descriptor to give
			msg.FDs.Close()
			return errUnasked
		}
		f, err := msg.Frame()
		if err != nil {
			return err
		}
		ack, err := frame.ParseChannelAck(f)
		if err != nil {
			return err
		}
		if err := c.deliver(ack); err != nil {
			return err
		}
	}
}

// deliver hands an answer to whoever waits for it. An answer nobody waits for
// is late or repeated: counted and ignored. One that names a waiting handoff
// but another token is neither, and ends the channel.
func (c *Channel) deliver(ack *usherpb.Ack) error {
	c.mu.Lock()
	d := c.waiting[ack.HandoffId]
	if d == nil {
		c.mu.Unlock()
		c.strays.Add(1)
		return nil
	}
	// A NACK for a message that the backend couldn't read echoes no token. It
	// gives nothing away: the claim has the last word on every NACK.
	unread := !ack.Accepted && len(ack.Token) == 0
	if !unread && !d.token.Equal(ack.Token) {
		c.mu.Unlock()
		return errWrongToken
	}
	delete(c.waiting, ack.HandoffId)
	c.mu.Unlock()
	d.answer <- Ack{
		Token: ack.Token, Accepted: ack.Accepted, Detail: nackDetail(ack),
		Leaving: ack.Reason == usherpb.NackReason_NACK_REASON_CLOSING,
	}
	return nil
}

var (
	errWrongToken = errors.New("backend acknowledged a handoff with another token; its channel is closed")
	errUnasked    = errors.New("backend sent descriptors; its channel is closed")
)

func nackDetail(ack *usherpb.Ack) string {
	if ack.Accepted {
		return ""
	}
	return ack.Reason.String() + ": " + ack.Detail
}

// retire ends the channel: every delivery under way learns that no answer will
// come.
func (c *Channel) retire() {
	_ = c.conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		return
	}
	c.waiting = nil
	close(c.done)
}

// Done is closed when the channel has ended.
func (c *Channel) Done() <-chan struct{} { return c.done }

// Strays returns how many answers came for handoffs that nobody waited for any
// more: late or repeated ones.
func (c *Channel) Strays() uint64 { return c.strays.Load() }

// Close ends the channel. Messages already sent stay readable for the backend,
// and the claims that travel with them decide. Serve returns. It may be called
// again.
func (c *Channel) Close() { c.retire() }

// Claims returns true: a claim travels beside every connection.
func (c *Channel) Claims() bool { return true }

// Send implements Transport: it is step 5, send. It never blocks: a full channel,
// which is a backend that does not read, is a failure at once.
func (c *Channel) Send(_ context.Context, offer Offer, conn syscall.RawConn) (Delivery, error) {
	d := &channelDelivery{ch: c, id: c.lastID.Add(1), token: offer.Token, answer: make(chan Ack, 1)}
	msg, err := frame.Append(nil, frame.ChannelOffer(&usherpb.Offer{
		Token:        offer.Token[:],
		HandoffId:    d.id,
		ConnectionId: offer.ConnectionID,
		Preamble:     offer.Preamble,
		EarlyDataLen: offer.EarlyDataLen,
		Traceparent:  offer.Traceparent,
		Tracestate:   offer.Tracestate,
	}))
	if err != nil {
		return nil, &SendError{Stage: StageSend, Class: SendFailed, Err: err}
	}
	if !c.expect(d) {
		return nil, &SendError{Stage: StageSend, Class: SendBackendUnavailable, Err: ErrBackendGone}
	}
	err = withFD(conn, func(fd int) error { return c.conn.Send(msg, fd, offer.Claim.FD()) })
	if err == nil {
		return d, nil
	}
	d.Close()
	var partial *channel.PartialSendError
	switch {
	case errors.Is(err, syscall.EMSGSIZE):
		return nil, &SendError{Stage: StageSend, Class: SendTooLarge, Err: err}
	case errors.As(err, &partial):
		c.Close() // the next message would begin inside this one
		return nil, &SendError{Stage: StageSend, Class: SendPartial, Sent: partial.Sent, Err: err}
	}
	if errors.Is(err, os.ErrClosed) { // Serve has not told the others yet
		return nil, &SendError{Stage: StageSend, Class: SendBackendUnavailable, Err: ErrBackendGone}
	}
	return nil, ClassifySend(err)
}

// expect registers d before its message leaves, so that no answer can miss it.
func (c *Channel) expect(d *channelDelivery) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		return false
	}
	c.waiting[d.id] = d
	return true
}

// channelDelivery is one offer on a channel.
type channelDelivery struct {
	ch     *Channel
	id     uint64
	token  Token
	answer chan Ack // buffered: deliver never waits for the reader
}

func (d *channelDelivery) AwaitAck(ctx context.Context) (Ack, error) {
	select {
	case ack := <-d.answer:
		return ack, nil
	case <-d.ch.done:
	case <-ctx.Done():
	}
	select { // an answer that came at the same time still counts
	case ack := <-d.answer:
		return ack, nil
	default:
	}
	if ctx.Err() != nil {
		return Ack{}, ctx.Err()
	}
	return Ack{}, ErrBackendGone
}

func (d *channelDelivery) Close() {
	d.ch.mu.Lock()
	defer d.ch.mu.Unlock()
	delete(d.ch.waiting, d.id) // of a nil map: no-op
}

// withFD runs f with conn's descriptor, which stays open meanwhile.
func withFD(conn syscall.RawConn, f func(fd int) error) error {
	var err error
	if ctlErr := conn.Control(func(fd uintptr) { err = f(int(fd)) }); ctlErr != nil {
		return ctlErr
	}
	return err
}

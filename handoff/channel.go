package handoff

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/seed-7265657e/usher/internal/channel"
	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/wire"
)

// Channel is usher's transport to one backend process: offer, connection and
// claim in one sendmsg, answered on the same channel (docs/protocol.md, section
// "Channel"). Its end means that the backend is gone for handoffs; whether the
// process is gone is another question.
type Channel struct {
	conn *channel.Conn
	page *claim.Page   // nil without one
	done chan struct{} // closed when no answer can come any more

	lastID atomic.Uint64
	strays atomic.Uint64

	mu      sync.Mutex
	waiting map[uint64]offered // by handoff id; nil once done is closed
}

// offered is an offer that waits for its answer.
type offered struct {
	token  Token
	answer func(Ack, error) // called once, without a lock held
}

// NewChannel makes a channel and returns with it the far end, which the caller
// gives to the backend and then closes. The caller runs Serve in a goroutine, and
// ends it with Close; or watches Watched in an event loop, calls ServeNext
// whenever there is something to read, and Retire when that fails.
func NewChannel() (ch *Channel, far int, err error) {
	conn, far, err := channel.Pair()
	if err != nil {
		return nil, -1, err
	}
	return newChannel(conn), far, nil
}

// SharePage adds a page of claims to a channel that has not been used, and returns
// its descriptor for the backend, which the caller gives away and then closes.
func (c *Channel) SharePage() (fd int, err error) {
	c.page, fd, err = claim.NewPage()
	return fd, err
}

// NewClaim makes a claim in the channel's page; without one, or with no word left
// in it, it makes a descriptor.
func (c *Channel) NewClaim() (*Claim, error) {
	if c.page != nil {
		if made, err := c.page.New(); err == nil {
			return made, nil
		}
	}
	return claim.New()
}

func newChannel(conn *channel.Conn) *Channel {
	return &Channel{conn: conn, done: make(chan struct{}), waiting: make(map[uint64]offered)}
}

// Stream reports whether the channel is a byte stream, for want of
// SOCK_SEQPACKET.
func (c *Channel) Stream() bool { return c.conn.Kind() == channel.Stream }

// Serve delivers the backend's answers until the channel ends, then closes it.
// It returns nil after Close or when the backend is gone, else what the backend
// did wrong.
func (c *Channel) Serve() error {
	defer c.Retire()
	for {
		msg, err := c.conn.Recv()
		if err = c.judge(msg, err); err != nil {
			return Blame(err)
		}
	}
}

// ServeNext delivers one answer if there is one. An error ends the channel: the
// caller stops to watch it, calls Retire, and learns from Blame what the backend
// did wrong.
func (c *Channel) ServeNext() error {
	msg, err := c.conn.TryRecv()
	if errors.Is(err, syscall.EAGAIN) {
		return nil
	}
	return c.judge(msg, err)
}

// Watched lends the descriptor to an event loop until Retire; false when there is
// none to watch.
func (c *Channel) Watched() (fd int, ok bool) { return c.conn.Watched() }

// Blame keeps from an error that ended the channel what the backend did wrong:
// nil when it, or this side, has just gone.
func Blame(err error) error {
	if errors.Is(err, errEnded) {
		return nil
	}
	return err
}

var errEnded = errors.New("channel ended")

// judge delivers a received message.
func (c *Channel) judge(msg channel.Message, err error) error {
	switch {
	case errors.Is(err, channel.ErrProtocol):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", errEnded, err)
	case msg.FDs.Len() > 0: // a backend has no descriptor to give
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
	return c.deliver(ack)
}

// deliver hands an answer to whoever waits for it. An answer nobody waits for
// is late or repeated: counted and ignored. One that names a waiting handoff
// but another token is neither, and ends the channel.
func (c *Channel) deliver(ack *wire.Ack) error {
	c.mu.Lock()
	d, waited := c.waiting[ack.HandoffId]
	if !waited {
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
	d.answer(Ack{
		Token: ack.Token, Accepted: ack.Accepted, Detail: nackDetail(ack),
		Leaving: ack.Reason == wire.NackReason_NACK_REASON_CLOSING,
	}, nil)
	return nil
}

var (
	errWrongToken = errors.New("backend acknowledged a handoff with another token; its channel is closed")
	errUnasked    = errors.New("backend sent descriptors; its channel is closed")
)

func nackDetail(ack *wire.Ack) string {
	if ack.Accepted {
		return ""
	}
	return ack.Reason.String() + ": " + ack.Detail
}

// Retire frees the channel: every offer under way learns that no answer will
// come. An event loop has taken the descriptor out before. It may be called again.
func (c *Channel) Retire() {
	_ = c.conn.Close()
	c.mu.Lock()
	waiting := c.waiting
	c.waiting = nil
	if waiting != nil {
		close(c.done)
	}
	c.mu.Unlock()
	for _, d := range waiting {
		d.answer(Ack{}, ErrBackendGone)
	}
	if c.page != nil {
		c.page.Close()
	}
}

// Done is closed when the channel has ended.
func (c *Channel) Done() <-chan struct{} { return c.done }

// Strays returns how many answers came for handoffs that nobody waited for any
// more: late or repeated ones.
func (c *Channel) Strays() uint64 { return c.strays.Load() }

// Close ends the channel. Messages already sent stay readable for the backend,
// and the claims that travel with them decide. Serve returns, and whoever watches
// the channel finds its end. It may be called again.
func (c *Channel) Close() { c.conn.End() }

// Claims returns true: a claim travels beside every connection.
func (c *Channel) Claims() bool { return true }

// Send implements Transport.
func (c *Channel) Send(_ context.Context, o Offer, conn syscall.RawConn) (Delivery, error) {
	d := &channelDelivery{ch: c, answer: make(chan answer, 1)}
	err := withFD(conn, func(fd int) (err error) {
		d.id, err = c.Offer(o, fd, func(ack Ack, err error) { d.answer <- answer{ack, err} })
		return err
	})
	var failed *SendError
	switch {
	case err == nil:
		return d, nil
	case errors.As(err, &failed):
		return nil, err
	}
	return nil, ClassifySend(err) // conn is closed
}

// Offer is step 5, send: offer, connection and, unless it is in the page, claim in
// one message. It borrows
// conn, and never blocks: a full channel, which is a backend that does not read,
// is a failure at once. The error is a *SendError; without one, answered is
// called once, with the backend's answer or ErrBackendGone, on the goroutine that
// serves the channel, unless Forget comes first.
func (c *Channel) Offer(o Offer, conn int, answered func(Ack, error)) (id uint64, err error) {
	id = c.lastID.Add(1)
	message := &wire.Offer{
		Token:        o.Token[:],
		HandoffId:    id,
		ConnectionId: o.ConnectionID,
		Preamble:     o.Preamble,
		EarlyDataLen: o.EarlyDataLen,
		Traceparent:  o.Traceparent,
		Tracestate:   o.Tracestate,
	}
	fds := [...]int{conn, o.Claim.FD()}
	beside := fds[:]
	if word, generation, ok := o.Claim.InPage(); ok {
		message.ClaimWord, message.ClaimGeneration = word, generation
		beside = fds[:1]
	}
	msg, err := frame.Append(nil, frame.ChannelOffer(message))
	if err != nil {
		return id, &SendError{Stage: StageSend, Class: SendFailed, Err: err}
	}
	if !c.expect(id, offered{o.Token, answered}) {
		return id, &SendError{Stage: StageSend, Class: SendBackendUnavailable, Err: ErrBackendGone}
	}
	err = c.conn.Send(msg, beside...)
	if err == nil {
		return id, nil
	}
	c.Forget(id)
	var partial *channel.PartialSendError
	switch {
	case errors.Is(err, syscall.EMSGSIZE):
		return id, &SendError{Stage: StageSend, Class: SendTooLarge, Err: err}
	case errors.As(err, &partial):
		c.Close() // the next message would begin inside this one
		return id, &SendError{Stage: StageSend, Class: SendPartial, Sent: partial.Sent, Err: err}
	}
	if errors.Is(err, os.ErrClosed) { // whoever serves has not told the others yet
		return id, &SendError{Stage: StageSend, Class: SendBackendUnavailable, Err: ErrBackendGone}
	}
	return id, ClassifySend(err)
}

// expect registers an offer before its message leaves, so that no answer can miss
// it.
func (c *Channel) expect(id uint64, d offered) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		return false
	}
	c.waiting[id] = d
	return true
}

// Forget ends the wait for an answer: one that comes later is counted and ignored.
func (c *Channel) Forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id) // of a nil map: no-op
}

// channelDelivery is one offer on a channel, for those who wait.
type channelDelivery struct {
	ch     *Channel
	id     uint64
	answer chan answer // buffered: it never makes the channel wait
}

type answer struct {
	ack Ack
	err error
}

func (d *channelDelivery) AwaitAck(ctx context.Context) (Ack, error) {
	select {
	case a := <-d.answer:
		return a.ack, a.err
	case <-ctx.Done():
	}
	select { // an answer that came at the same time still counts
	case a := <-d.answer:
		return a.ack, a.err
	default:
		return Ack{}, ctx.Err()
	}
}

func (d *channelDelivery) Close() { d.ch.Forget(d.id) }

// withFD runs f with conn's descriptor, which stays open meanwhile.
func withFD(conn syscall.RawConn, f func(fd int) error) error {
	var err error
	if ctlErr := conn.Control(func(fd uintptr) { err = f(int(fd)) }); ctlErr != nil {
		return ctlErr
	}
	return err
}

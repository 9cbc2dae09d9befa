package transport

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wire"
)

// Channel is usher's way to one backend process: offer, connection and claim in one
// sendmsg, answered on the same channel (docs/protocol.md, section "Channel"). Its end
// means that the backend is gone for handoffs; whether the process is gone is another
// question.
//
// It belongs to the goroutine that its table belongs to, but for Close, Strays and
// UnknownMessages.
type Channel struct {
	conn   *sock.Channel
	table  *handoff.Table // of the attempts that are sent on it
	page   *claim.Page    // nil without one
	strays [handoff.StrayUnknown + 1]atomic.Uint64

	unknown atomic.Uint64 // messages of kinds that are not known here
	notes   []Note        // read, and not yet taken
}

// Note is what a backend says of itself, or the broker to it, beside offers and answers
// (docs/protocol.md, section "Started instances").
type Note struct {
	Kind NoteKind
	// Pipe is the backend's own socket, of NoteReady.
	Pipe string
	// Active is how many connections the backend has, of NoteActive.
	Active uint64
}

// NoteKind says what a Note is about.
type NoteKind int32

// The notes.
const (
	// NoteReady: an instance that the broker has started takes connections.
	NoteReady = NoteKind(wire.NoteKind_NOTE_KIND_READY)
	// NoteIdle: a backend has had no connection for its time, and would go.
	NoteIdle = NoteKind(wire.NoteKind_NOTE_KIND_IDLE)
	// NoteDrain: the broker lets it go.
	NoteDrain = NoteKind(wire.NoteKind_NOTE_KIND_DRAIN)
	// NoteActive: how many connections a backend has, when that has changed.
	NoteActive = NoteKind(wire.NoteKind_NOTE_KIND_ACTIVE)
	// NoteBusy: a backend has had no connection for its time, and would stay, for it is at
	// work.
	NoteBusy = NoteKind(wire.NoteKind_NOTE_KIND_BUSY)
)

// TakeNotes returns what the backend has said since it was last called.
func (c *Channel) TakeNotes() (notes []Note) {
	notes, c.notes = c.notes, nil
	return notes
}

// Say sends the backend a note. It never blocks; there is no answer.
func (c *Channel) Say(n Note) error {
	msg, err := frame.Append(nil, frame.ChannelNote(&wire.Note{Kind: wire.NoteKind(n.Kind), BackendPipe: n.Pipe, Active: n.Active}))
	if err != nil {
		return err
	}
	return c.conn.Send(msg)
}

// NewChannel makes a channel for the attempts of table and returns with it the far
// end, which the caller sends to the backend and then closes. The caller watches
// Watched in an event loop, calls Next whenever there is something to read, and Retire
// when that fails.
func NewChannel(table *handoff.Table) (ch *Channel, far *sock.FD, err error) {
	conn, far, err := sock.Pair()
	if err != nil {
		return nil, nil, err
	}
	return newChannel(conn, table), far, nil
}

func newChannel(conn *sock.Channel, table *handoff.Table) *Channel {
	return &Channel{conn: conn, table: table}
}

// SharePage adds a page of claims to a channel that has not been used, and returns
// its descriptor for the backend, which the caller sends and then closes.
func (c *Channel) SharePage() (fd *sock.FD, err error) {
	c.page, fd, err = claim.NewPage()
	return fd, err
}

// Claim is the second half of step 5, issue: it gives a its claim, and binds it to
// the channel. The claim is in the channel's page; without one, or with no word left in
// it, it is a descriptor.
func (c *Channel) Claim(a *handoff.Attempt) error {
	if c.page != nil {
		if in, err := c.page.New(); err == nil {
			a.Bind(c, in)
			return nil
		}
	}
	own, err := claim.New()
	if err != nil {
		return err
	}
	a.Bind(c, own)
	return nil
}

// Send is step 6, send: offer, connection and, unless it is in the page, claim in one
// message. It borrows conn, and never blocks: a full channel, which is a backend that
// does not read, is a failure at once. The error is a *SendError; without one, Next
// returns the backend's answer. a was given to Claim before.
func (c *Channel) Send(a *handoff.Attempt, o handoff.Offer, conn sock.Lender) error {
	own := a.Claim().(*claim.Claim)
	message := &wire.Offer{
		Token:        a.TokenBytes(),
		HandoffId:    a.Number(),
		ConnectionId: o.ConnectionID,
		Preamble:     o.Preamble,
		EarlyDataLen: o.EarlyDataLen,
		Traceparent:  o.Traceparent,
		Tracestate:   o.Tracestate,
	}
	fds := [...]sock.Lender{conn, own.Descriptor()}
	beside := fds[:]
	if word, generation, ok := own.InPage(); ok {
		message.ClaimWord, message.ClaimGeneration = word, generation
		beside = fds[:1]
	}
	msg, err := frame.Append(nil, frame.ChannelOffer(message))
	if err != nil {
		return &handoff.SendError{Stage: handoff.StageSend, Class: handoff.SendFailed, Err: err}
	}
	err = c.conn.Send(msg, beside...)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errno.EMSGSIZE):
		return &handoff.SendError{Stage: handoff.StageSend, Class: handoff.SendTooLarge, Err: err}
	case errors.Is(err, os.ErrClosed):
		return &handoff.SendError{Stage: handoff.StageSend, Class: handoff.SendBackendUnavailable, Err: handoff.ErrBackendGone}
	}
	return handoff.ClassifySend(err)
}

// Next reads one answer if there is one, and returns it with the pending attempt that
// it is for; nil when there is none. A message of another kind is counted, and ignored
// with what came beside it. The token that it presents is that attempt's. An
// error ends the channel: the caller stops to watch it, calls Retire, and learns from
// Blame what the backend did wrong.
func (c *Channel) Next() (*handoff.Attempt, handoff.Ack, error) {
	msg, err := c.conn.TryRecv()
	switch {
	case errors.Is(err, errno.EAGAIN):
		return nil, handoff.Ack{}, nil
	case errors.Is(err, sock.ErrProtocol):
		return nil, handoff.Ack{}, err
	case err != nil:
		return nil, handoff.Ack{}, fmt.Errorf("%w: %w", errEnded, err)
	}
	defer msg.FDs.Close()
	f, err := msg.Frame()
	if err != nil {
		return nil, handoff.Ack{}, err
	}
	note := frame.ParseChannelNote(f)
	switch {
	case note != nil:
		c.notes = append(c.notes, Note{Kind: NoteKind(note.Kind), Pipe: note.BackendPipe, Active: note.Active})
		return nil, handoff.Ack{}, nil
	case frame.UnknownOnChannel(f, wire.FrameKind_FRAME_KIND_RESPONSE):
		c.unknown.Add(1)
		return nil, handoff.Ack{}, nil
	case msg.FDs.Len() > 0: // a backend has no descriptor to give
		return nil, handoff.Ack{}, errUnasked
	}
	ack, err := frame.ParseChannelAck(f)
	if err != nil {
		return nil, handoff.Ack{}, err
	}
	return c.match(ack)
}

// match finds the attempt that an answer is for. An answer nobody waits for is
// counted and ignored. One that names a pending attempt but another token is the
// backend's fault, and ends the channel.
func (c *Channel) match(ack *wire.Ack) (*handoff.Attempt, handoff.Ack, error) {
	a, why := c.table.Whose(ack.HandoffId, c)
	if a == nil {
		c.strays[why].Add(1)
		return nil, handoff.Ack{}, nil
	}
	// A NACK for a message that the backend couldn't read echoes no token. It
	// gives nothing away: the claim has the last word on every NACK.
	unread := !ack.Accepted && len(ack.Token) == 0
	if !unread && !a.Token().Equal(ack.Token) {
		return nil, handoff.Ack{}, errWrongToken
	}
	return a, handoff.Ack{
		Token: ack.Token, Accepted: ack.Accepted, Detail: nackDetail(ack),
		Leaving: ack.Reason == wire.NackReason_NACK_REASON_CLOSING,
	}, nil
}

var (
	errEnded      = errors.New("channel ended")
	errWrongToken = errors.New("backend acknowledged a handoff with another token; its channel is closed")
	errUnasked    = errors.New("backend sent descriptors; its channel is closed")
)

// Blame keeps from an error that ended the channel what the backend did wrong:
// nil when it, or this side, has just gone.
func Blame(err error) error {
	if errors.Is(err, errEnded) {
		return nil
	}
	return err
}

func nackDetail(ack *wire.Ack) string {
	if ack.Accepted {
		return ""
	}
	return ack.Reason.String() + ": " + ack.Detail
}

// Strays counts the answers for which nobody waited.
type Strays struct {
	Late     uint64 // their attempt had ended without them
	Repeated uint64 // their attempt had been answered
	Unknown  uint64 // they named none that was sent on the channel
}

// Total is how many they are.
func (s Strays) Total() uint64 { return s.Late + s.Repeated + s.Unknown }

// Strays may be called on any goroutine.
func (c *Channel) Strays() Strays {
	return Strays{
		Late:     c.strays[handoff.StrayLate].Load(),
		Repeated: c.strays[handoff.StrayRepeated].Load(),
		Unknown:  c.strays[handoff.StrayUnknown].Load(),
	}
}

// UnknownMessages counts the messages of kinds that are not known here. It may be
// called on any goroutine.
func (c *Channel) UnknownMessages() uint64 { return c.unknown.Load() }

// Watched is what an event loop watches, until Retire.
func (c *Channel) Watched() sock.Lender { return c.conn }

// Close ends the channel. Messages already sent stay readable for the backend, and the
// claims that travel with them decide. Whoever watches the channel finds its end. It may
// be called again, and on any goroutine.
func (c *Channel) Close() { c.conn.End() }

// Retire frees the channel, whose descriptor the event loop has taken out before. It
// returns the attempts that get no answer any more, for the caller to end. It may be
// called again.
func (c *Channel) Retire() []*handoff.Attempt {
	_ = c.conn.Close()
	if c.page != nil {
		c.page.Close() // a claim that is open keeps its word
	}
	return c.table.On(c)
}

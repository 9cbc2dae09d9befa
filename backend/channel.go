package backend

import (
	"errors"
	"net"
	"sync/atomic"

	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wire"
)

// brokerChannel is the channel to the broker, and the page of claims that came with
// it, nil without one. The page is there until Close, and until every acknowledgement
// that is still owed on it has been given: a connection may wait for its first bytes
// longer than its channel lives.
type brokerChannel struct {
	*sock.Channel
	path    string // of the pipe, as the broker was told
	page    *claim.Page
	uses    atomic.Int32 // who may touch the page: the channel itself, and what is owed
	leaving atomic.Bool  // End has come
	closed  atomic.Bool

	capabilities uint64 // the broker's; bits that are not known mean nothing
	told         int64  // how many connections the broker knows of; the loop's
}

func newBrokerChannel() *brokerChannel {
	b := new(brokerChannel)
	b.uses.Store(1)
	return b
}

// End ends the conversation: nothing that comes is adopted any more. Close must follow.
func (b *brokerChannel) End() {
	b.leaving.Store(true)
	b.Channel.End()
}

// Close ends the channel. It may be called again.
func (b *brokerChannel) Close() error {
	if b.closed.Swap(true) {
		return nil
	}
	b.release()
	return b.Channel.Close()
}

// retain keeps the page for one more. Who calls it knows that it is there.
func (b *brokerChannel) retain() { b.uses.Add(1) }

// release ends a retain.
func (b *brokerChannel) release() {
	if b.uses.Add(-1) == 0 && b.page != nil {
		b.page.Close()
	}
}

// served is the channel's part of the loop.
type served struct {
	*brokerChannel
	ended chan error // gets why the channel ended, once
}

// serveChannel adopts what arrives on ch until the channel ends, and closes it. What it
// returns says, once, why the channel ended.
func (l *Listener) serveChannel(ch *brokerChannel) <-chan error {
	ended := make(chan error, 1)
	s := &served{brokerChannel: ch, ended: ended}
	if !l.loop.Post(func() { l.watchChannel(s) }) {
		_ = ch.Close()
		ended <- net.ErrClosed
	}
	return ended
}

// answerBroken tells a broker that broke the framing, so that it need not wait.
func (l *Listener) answerBroken(ch *sock.Channel, err error) {
	if errors.Is(err, sock.ErrProtocol) {
		_ = answer(ch, &wire.Ack{Reason: wire.NackReason_NACK_REASON_REJECTED, Detail: err.Error()})
	}
}

func (l *Listener) watchChannel(s *served) {
	if l.closing {
		_ = s.Close() // its page is open still
		s.ended <- net.ErrClosed
		return
	}
	if err := l.loop.Add(s, func() { l.receive(s) }); err != nil {
		_ = s.Close()
		s.ended <- err
		return
	}
	l.channels[s] = true
	l.tellActive() // this broker knows of none yet
	if _, idle := l.population.idleSince(); idle && l.busy {
		l.sayBusy(s.brokerChannel)
	}
}

// receive adopts one message.
func (l *Listener) receive(s *served) {
	msg, err := s.TryRecv()
	if errors.Is(err, errno.EAGAIN) {
		return
	}
	if err == nil {
		failpoint.Hit(failpoint.BackendReceived)
		err = l.adopt(s.brokerChannel, msg)
	} else {
		l.answerBroken(s.Channel, err)
	}
	if err != nil {
		l.loop.Remove(s)
		delete(l.channels, s)
		_ = s.Close()
		s.ended <- err
	}
}

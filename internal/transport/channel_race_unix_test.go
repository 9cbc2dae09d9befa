//go:build unix

package transport

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

const (
	verdictRounds      = 50_000
	verdictRoundsShort = 2_000
	verdictAtOnce      = 24

	// verdictDeadline grows until each side has won: how near to it the answers come is the
	// machine's to say.
	verdictDeadline     = 2 * time.Millisecond
	verdictDeadlineMost = time.Second
)

// TestDeadlineRacesAck: the backend answers at about the time at which the broker gives
// up (faults row 16). In every round exactly one side owns the connection, and the
// broker's verdict says which.
func TestDeadlineRacesAck(t *testing.T) {
	for deadline := verdictDeadline; !raceToDeadline(t, deadline) && !t.Failed(); deadline *= 2 {
		if deadline > verdictDeadlineMost {
			t.Fatal("one side won always: this was no race")
		}
	}
}

// raceToDeadline reports whether each side has won at least once.
func raceToDeadline(t *testing.T, deadline time.Duration) bool {
	rounds := verdictRounds
	if testing.Short() {
		rounds = verdictRoundsShort
	}
	l := newLine(t)
	backend := &racingBackend{line: l, deadline: deadline}
	backendDone := make(chan struct{})
	go func() { defer close(backendDone); backend.run(t) }()

	broker := &racingBroker{line: l, deadline: deadline, left: rounds, pending: make(map[*handoff.Attempt]bool)}
	for range verdictAtOnce {
		broker.attempts = append(broker.attempts, new(handoff.Attempt))
	}
	broker.run(t)
	testutil.WaitFor(t, "the backend has answered all", func() bool {
		broker.next(t) // a full channel would keep the backend from answering
		return backend.answered.Load() == int64(rounds) && l.Strays().Total() >= uint64(broker.given)
	})
	l.Close()
	_ = l.backend.Close()
	<-backendDone
	backend.group.Wait()

	t.Logf("%v: %d adopted in time, %d late, %d not taken, %+v", deadline, broker.inTime, broker.late, broker.notTaken, l.Strays())
	if adopted := broker.inTime + broker.late; int64(adopted) != backend.adopted.Load() {
		t.Errorf("the broker says %d were adopted, the backend took %d", adopted, backend.adopted.Load())
	}
	l.idle(t)
	return broker.inTime+broker.late > 0 && broker.notTaken > 0
}

// racingBroker is a loop that keeps a number of attempts under way.
type racingBroker struct {
	*line
	deadline                      time.Duration
	attempts                      []*handoff.Attempt
	pending                       map[*handoff.Attempt]bool
	left                          int // to be sent
	given                         int // up at their deadline
	inTime, late, notTaken, ended int
}

func (b *racingBroker) run(t *testing.T) {
	rounds := b.left
	for b.ended < rounds && !t.Failed() {
		for _, a := range b.attempts {
			if !b.pending[a] && b.left > 0 {
				b.send(t, a)
			}
		}
		b.next(t)
		now := time.Now()
		for _, a := range b.attempts {
			if b.pending[a] && !now.Before(a.Deadline()) {
				b.given++
				b.end(t, a, a.Unanswered(handoff.ErrNoAck, now))
			}
		}
	}
}

func (b *racingBroker) send(t *testing.T, a *handoff.Attempt) {
	if err := b.table.Issue(a, b.deadline, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := b.Claim(a); err != nil {
		t.Fatal(err)
	}
	if err := b.Send(a, handoff.Offer{}, b.conn); err != nil { // the channel is full: no race, another round
		if out := a.SendFailed(err); out.FDReachedBackend {
			t.Errorf("got %+v", out)
		}
		a.Close()
		return
	}
	b.pending[a] = true
	b.left--
}

// next waits a moment for an answer and handles what has come.
func (b *racingBroker) next(t *testing.T) {
	watched := []unix.PollFd{{Fd: int32(sock.Number(b.Watched())), Events: unix.POLLIN}}
	for wait := 1; ; wait = 0 {
		if n, _ := unix.Poll(watched, wait); n <= 0 {
			return
		}
		a, ack, err := b.Next()
		if err != nil {
			t.Fatal(err)
		}
		if a != nil {
			b.end(t, a, a.Answered(ack, time.Now()))
		}
	}
}

func (b *racingBroker) end(t *testing.T, a *handoff.Attempt, out handoff.Outcome) {
	a.Close()
	b.pending[a] = false
	b.ended++
	switch {
	case out.Verdict == handoff.Unknown:
		t.Errorf("a claim leaves nothing unknown: %+v", out)
	case out.Verdict == handoff.NotTaken:
		b.notTaken++
	case out.Late:
		b.late++
	default:
		b.inTime++
	}
}

// racingBackend takes the claim of each offer after a time around the deadline,
// and answers by what it got.
type racingBackend struct {
	*line
	deadline time.Duration
	group    sync.WaitGroup
	adopted  atomic.Int64
	answered atomic.Int64
}

func (b *racingBackend) run(t *testing.T) {
	for {
		m, err := b.backend.Recv()
		if err != nil {
			return
		}
		f, err := m.Frame()
		if err != nil || m.FDs.Len() != 2 || m.Fault != nil {
			t.Errorf("%v, %d descriptors, %v", err, m.FDs.Len(), m.Fault)
			return
		}
		offer, err := frame.ParseChannelOffer(f)
		if err != nil {
			t.Error(err)
			return
		}
		c, err := claim.Receive(m.FDs.Take(1))
		if err != nil {
			t.Error(err)
			return
		}
		m.FDs.Close()
		b.group.Add(1)
		time.AfterFunc(rand.N(2*b.deadline), func() {
			defer b.group.Done()
			b.adopt(t, offer, c)
		})
	}
}

func (b *racingBackend) adopt(t *testing.T, offer *wire.Offer, c *claim.Claim) {
	defer c.Close()
	won, err := c.Take()
	if err != nil {
		t.Error(err)
	}
	if won {
		b.adopted.Add(1)
	}
	msg, err := frame.Append(nil, frame.ChannelAck(&wire.Ack{
		Token: offer.Token, HandoffId: offer.HandoffId, Accepted: won, Reason: wire.NackReason_NACK_REASON_CLAIM_LOST,
	}))
	if err != nil {
		t.Error(err)
	}
	for err = b.backend.Send(msg); errors.Is(err, unix.EAGAIN); { // the broker has not read yet
		time.Sleep(100 * time.Microsecond)
		err = b.backend.Send(msg)
	}
	if err != nil {
		t.Error(err)
	}
	b.answered.Add(1)
}

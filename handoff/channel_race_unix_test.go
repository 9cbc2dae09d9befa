//go:build unix

package handoff

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

const (
	verdictRounds      = 100_000
	verdictRoundsShort = 4_000
	verdictSenders     = 24
	verdictDeadline    = 2 * time.Millisecond
)

// TestDeadlineRacesAck: the backend answers at about the time at which the
// broker gives up and the sweep runs (faults row 16). In every round exactly one
// side owns the connection, and the broker's verdict says which.
func TestDeadlineRacesAck(t *testing.T) {
	for name, sotype := range map[string]int{"seqpacket": unix.SOCK_SEQPACKET, "stream": unix.SOCK_STREAM} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			raceVerdicts(t, sotype)
		})
	}
}

func raceVerdicts(t *testing.T, sotype int) {
	rounds := verdictRounds / 2 // of each kind
	if testing.Short() {
		rounds = verdictRoundsShort / 2
	}
	l := newLine(t, sotype)
	l.serve(t)
	tokens := NewTokens(DefaultTokenConfig())
	o := Orchestrator{Tokens: tokens, Acks: NewAcks(tokens, verdictDeadline)}
	backend := &racingBackend{line: l}
	backendDone := make(chan struct{})
	go func() { defer close(backendDone); backend.run(t) }()
	sweepDone := make(chan struct{})
	go func() {
		defer close(sweepDone)
		for tick := time.NewTicker(200 * time.Microsecond); ; <-tick.C {
			select {
			case <-l.Done():
				tick.Stop()
				return
			default:
				o.Acks.ExpireOverdue(time.Now())
			}
		}
	}()

	var left, inTime, late, notTaken atomic.Int64
	left.Store(int64(rounds))
	var senders sync.WaitGroup
	for range verdictSenders {
		senders.Go(func() {
			for left.Add(-1) >= 0 {
				out := o.Handoff(t.Context(), Attempt{Conn: l.conn, Transport: l})
				switch {
				case !out.FDReachedBackend: // the channel was full: no race, another round
					left.Add(1)
				case out.Verdict == Unknown:
					t.Errorf("a claim leaves nothing unknown: %+v", out)
				case out.Verdict == NotTaken:
					notTaken.Add(1)
				case out.Late:
					late.Add(1)
				default:
					inTime.Add(1)
				}
			}
		})
	}
	senders.Wait()
	testutil.WaitFor(t, "the backend has answered all", func() bool { return backend.answered.Load() == int64(rounds) })
	l.Close()
	_ = l.backend.Close()
	<-backendDone
	<-sweepDone
	backend.group.Wait()

	t.Logf("%d adopted in time, %d late, %d not taken, %d stray answers", inTime.Load(), late.Load(), notTaken.Load(), l.Strays())
	if adopted := inTime.Load() + late.Load(); adopted != backend.adopted.Load() {
		t.Errorf("the broker says %d were adopted, the backend took %d", adopted, backend.adopted.Load())
	}
	if inTime.Load()+late.Load() == 0 || notTaken.Load() == 0 {
		t.Error("one side won always: this was no race")
	}
	if tokens.Pending() != 0 || o.Acks.Pending() != 0 {
		t.Errorf("left pending: %d tokens, %d acknowledgements", tokens.Pending(), o.Acks.Pending())
	}
	l.idle(t)
}

// racingBackend takes the claim of each offer after a time around the deadline,
// and answers by what it got.
type racingBackend struct {
	*line
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
		time.AfterFunc(rand.N(2*verdictDeadline), func() {
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
	for err = b.backend.Send(msg); errors.Is(err, unix.EAGAIN); {
		err = b.backend.Send(msg)
	}
	if err != nil {
		t.Error(err)
	}
	b.answered.Add(1)
}

// TestConcurrentHandoffs: many senders, one channel, one backend that is quick;
// every connection is adopted in time.
func TestConcurrentHandoffs(t *testing.T) {
	onBothKinds(t, func(t *testing.T, l *line) {
		const senders, each = 8, 50
		tokens := NewTokens(DefaultTokenConfig())
		o := Orchestrator{Tokens: tokens, Acks: NewAcks(tokens, DefaultAckDeadline)}
		backendDone := make(chan struct{})
		go func() {
			defer close(backendDone)
			for range senders * each {
				offer := l.receive(t)
				l.answer(t, accept(offer))
			}
		}()
		var group sync.WaitGroup
		for range senders {
			group.Go(func() {
				for range each {
					if out := o.Handoff(t.Context(), Attempt{Conn: l.conn, Transport: l}); out.Verdict != Adopted || out.Late {
						t.Errorf("got %+v", out)
					}
				}
			})
		}
		group.Wait()
		<-backendDone
		l.idle(t)
	})
}

package handoff_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"pgregory.net/rapid"
)

// TestAcksMatchModel compares with a map and a scan, at times that sometimes go
// back.
func TestAcksMatchModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		deadline := millis(rapid.IntRange(1, 40).Draw(rt, "deadline"))
		tokens := handoff.NewTokens(handoff.DefaultTokenConfig())
		acks := handoff.NewAcks(tokens, deadline)
		since := make(map[handoff.Token]time.Time)
		now := 1000
		tick := func(rt *rapid.T) time.Time {
			now += rapid.IntRange(-2, 5).Draw(rt, "tick")
			return at(now)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"register": func(rt *rapid.T) {
				token, when := fewTokens().Draw(rt, "token"), tick(rt)
				acks.Register(token, handoff.Backend{}, when)
				since[token] = when
			},
			"acknowledge": func(rt *rapid.T) {
				token, when := fewTokens().Draw(rt, "token"), tick(rt)
				start, pending := since[token]
				delete(since, token)
				acked, err := acks.Acknowledge(token, when)
				var late *handoff.AckDeadlineError
				switch {
				case !pending:
					if !errors.Is(err, handoff.ErrTokenNotPending) {
						rt.Fatalf("got %v", err)
					}
				case when.Sub(start) >= deadline:
					if !errors.As(err, &late) || !late.Deadline.Equal(start.Add(deadline)) {
						rt.Fatalf("got %v", err)
					}
				case err != nil || acked.Waited != max(when.Sub(start), 0):
					rt.Fatalf("got %v, waited %s", err, acked.Waited)
				}
			},
			"abandon": func(rt *rapid.T) {
				token := fewTokens().Draw(rt, "token")
				_, want := since[token]
				delete(since, token)
				if _, got := acks.Abandon(token); got != want {
					rt.Fatalf("got %v, want %v", got, want)
				}
			},
			"expire": func(rt *rapid.T) {
				when := tick(rt)
				var last time.Time
				for _, overdue := range acks.ExpireOverdue(when) {
					start, pending := since[overdue.Token]
					if !pending || !overdue.Deadline.Equal(start.Add(deadline)) || overdue.Deadline.Before(last) {
						rt.Fatalf("pending %v, deadline %s, the one before %s", pending, overdue.Deadline, last)
					}
					last = overdue.Deadline
					delete(since, overdue.Token)
				}
				for _, start := range since {
					if when.Sub(start) >= deadline {
						rt.Fatal("an overdue entry was left")
					}
				}
			},
			"": func(rt *rapid.T) {
				if acks.Pending() != len(since) {
					rt.Fatalf("%d pending, want %d", acks.Pending(), len(since))
				}
			},
		})
	})
}

// TestSweepRacesAck: the sweep and the ACK meet at the deadline; exactly one of
// them ends the handoff (faults row 16).
func TestSweepRacesAck(t *testing.T) {
	const rounds, batch = 100_000, 100
	tokens := handoff.NewTokens(handoff.DefaultTokenConfig())
	acks := handoff.NewAcks(tokens, time.Second)
	due := epoch.Add(time.Second)
	var acked, swept int
	for range rounds / batch {
		ends := make(map[handoff.Token]int, batch)
		for range batch {
			token, err := tokens.Issue(epoch)
			if err != nil {
				t.Fatal(err)
			}
			acks.Register(token, handoff.Backend{}, epoch)
			ends[token] = 0
		}
		var inTime []handoff.Token
		var overdue []handoff.Overdue
		var group sync.WaitGroup
		start := make(chan struct{})
		group.Go(func() {
			<-start
			for range batch {
				overdue = append(overdue, acks.ExpireOverdue(due)...)
			}
		})
		group.Go(func() {
			<-start
			for token := range ends {
				if _, err := acks.Acknowledge(token, due.Add(-1)); err == nil {
					inTime = append(inTime, token)
				} else if !errors.Is(err, handoff.ErrTokenNotPending) {
					t.Error(err)
				}
			}
		})
		close(start)
		group.Wait()
		for _, token := range inTime {
			ends[token]++
		}
		for _, o := range overdue {
			ends[o.Token]++
		}
		for _, n := range ends {
			if n != 1 {
				t.Fatalf("a handoff ended %d times", n)
			}
		}
		acked, swept = acked+len(inTime), swept+len(overdue)
	}
	if tokens.Pending() != 0 || acks.Pending() != 0 {
		t.Errorf("%d tokens and %d entries are left", tokens.Pending(), acks.Pending())
	}
	t.Logf("%d acknowledged, %d swept", acked, swept)
}

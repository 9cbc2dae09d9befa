package handoff_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/handoff"
)

// tokenLoad holds a number of pending tokens and replaces one per turn.
type tokenLoad struct {
	tokens *handoff.Tokens
	held   []handoff.Token
	order  []int // the places to replace, in turn
	turn   int
	now    time.Time
}

func newTokenLoad(tb testing.TB, pending int, shuffled bool) *tokenLoad {
	tb.Helper()
	config := handoff.DefaultTokenConfig()
	config.MaxPending = pending + 1
	load := &tokenLoad{
		tokens: handoff.NewTokens(config),
		held:   make([]handoff.Token, pending),
		order:  make([]int, pending),
		now:    epoch,
	}
	for i := range load.held {
		load.order[i] = i
		load.held[i] = load.issue(tb)
	}
	if shuffled {
		rand.New(rand.NewPCG(1, 2)).Shuffle(pending, func(i, j int) {
			load.order[i], load.order[j] = load.order[j], load.order[i]
		})
	}
	return load
}

func (l *tokenLoad) issue(tb testing.TB) handoff.Token {
	l.now = l.now.Add(time.Nanosecond)
	token, err := l.tokens.Issue(l.now)
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

func (l *tokenLoad) step(tb testing.TB) {
	place := &l.held[l.order[l.turn]]
	l.turn = (l.turn + 1) % len(l.order)
	fresh := l.issue(tb)
	if err := l.tokens.Consume(*place, place[:], l.now); err != nil {
		tb.Fatal(err)
	}
	*place = fresh
}

// BenchmarkTokens is one issue and one consume while others are pending.
func BenchmarkTokens(b *testing.B) {
	for _, order := range []string{"fifo", "random"} {
		for _, pending := range []int{10, 10_000, 100_000} {
			b.Run(fmt.Sprintf("order=%s/pending=%d", order, pending), func(b *testing.B) {
				load := newTokenLoad(b, pending, order == "random")
				b.ReportAllocs()
				for b.Loop() {
					load.step(b)
				}
			})
		}
	}
}

// BenchmarkTokensParallel is the same from all processors at once.
func BenchmarkTokensParallel(b *testing.B) {
	config := handoff.DefaultTokenConfig()
	config.MaxPending = 100_000
	tokens := handoff.NewTokens(config)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			token, err := tokens.Issue(epoch)
			if err != nil {
				b.Fatal(err)
			}
			if err := tokens.Consume(token, token[:], epoch); err != nil {
				b.Fatal(err)
			}
		}
	})
}

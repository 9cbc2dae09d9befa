package handoff_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/handoff"
)

func TestTokensDoNotAllocate(t *testing.T) {
	load := newTokenLoad(t, 1000, true)
	acks := handoff.NewAcks(load.tokens, time.Second)
	for i := range load.held {
		acks.Register(load.held[i], handoff.Backend{Service: "demo-svc"}, load.now)
	}
	for name, step := range map[string]func(){
		"issue and consume": func() { load.step(t) },
		"register again and sweep": func() {
			acks.Register(load.held[0], handoff.Backend{Service: "demo-svc"}, load.now)
			acks.ExpireOverdue(load.now)
		},
		"issue, register and acknowledge": func() {
			token := load.issue(t)
			acks.Register(token, handoff.Backend{Service: "demo-svc"}, load.now)
			if _, err := acks.Acknowledge(token, load.now); err != nil {
				t.Fatal(err)
			}
		},
	} {
		step()
		if allocs := testing.AllocsPerRun(1000, step); allocs != 0 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
}

// TestTokensConcurrently checks that no token is given out twice and that either
// its issuer revokes it or another goroutine consumes it, never both.
func TestTokensConcurrently(t *testing.T) {
	const workers, rounds = 8, 2000
	config := handoff.DefaultTokenConfig()
	config.MaxPending = 2 * workers
	tokens := handoff.NewTokens(config)
	offered := make(chan handoff.Token)
	var revoked atomic.Int64
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for range rounds {
				token, err := tokens.Issue(epoch)
				if err != nil {
					t.Error(err)
					return
				}
				offered <- token
				if tokens.Revoke(token) {
					revoked.Add(1)
				}
			}
		})
	}
	go func() { group.Wait(); close(offered) }()
	seen := make(map[handoff.Token]bool)
	consumed := 0
	for token := range offered {
		if seen[token] {
			t.Error("a token was given out twice")
		}
		seen[token] = true
		if tokens.Consume(token, token[:], epoch) == nil {
			consumed++
		}
	}
	if ended := consumed + int(revoked.Load()); ended != workers*rounds || tokens.Pending() != 0 {
		t.Errorf("%d of %d ended, %d pending", ended, workers*rounds, tokens.Pending())
	}
}

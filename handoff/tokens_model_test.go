package handoff_test

import (
	"errors"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"pgregory.net/rapid"
)

// modelTokens is the token store of spec 02 §2, word by word.
type modelTokens struct {
	max, attempts int
	ttl           time.Duration
	expires       map[handoff.Token]time.Time
}

func (m *modelTokens) prune(now time.Time, keep *handoff.Token) (n int) {
	for token, expires := range m.expires {
		if !now.Before(expires) && (keep == nil || token != *keep) {
			delete(m.expires, token)
			n++
		}
	}
	return n
}

func (m *modelTokens) issue(random *recordingRandom, now time.Time) (handoff.Token, string) {
	m.prune(now, nil)
	if len(m.expires) >= m.max {
		return handoff.Token{}, "limit"
	}
	for range m.attempts {
		candidate := random.replay()
		if _, taken := m.expires[candidate]; !taken {
			m.expires[candidate] = now.Add(m.ttl)
			return candidate, "ok"
		}
	}
	return handoff.Token{}, "collision"
}

func (m *modelTokens) consume(expected, presented handoff.Token, now time.Time) string {
	m.prune(now, &expected)
	expires, pending := m.expires[expected]
	switch {
	case !pending:
		return "not pending"
	case !now.Before(expires):
		delete(m.expires, expected)
		return "expired"
	case presented != expected:
		return "mismatch"
	}
	delete(m.expires, expected)
	return "ok"
}

func (m *modelTokens) revoke(token handoff.Token) bool {
	_, pending := m.expires[token]
	delete(m.expires, token)
	return pending
}

// recordingRandom gives the store bytes in reads of any size and gives the model
// the same bytes again. Few values, so that tokens and chains collide.
type recordingRandom struct {
	rt   *rapid.T
	gave []byte
}

func fewTokens() *rapid.Generator[handoff.Token] {
	return rapid.Custom(func(rt *rapid.T) (token handoff.Token) {
		token[0] = rapid.ByteRange(0, 3).Draw(rt, "first")
		token[15] = rapid.ByteRange(0, 7).Draw(rt, "last")
		return token
	})
}

func (r *recordingRandom) Read(p []byte) (int, error) {
	n := 0
	for blocks := rapid.IntRange(1, 3).Draw(r.rt, "blocks"); blocks > 0; blocks-- {
		token := fewTokens().Draw(r.rt, "random")
		n += copy(p[n:], token[:])
	}
	r.gave = append(r.gave, p[:n]...)
	return n, nil
}

func (r *recordingRandom) replay() handoff.Token {
	token := handoff.Token(r.gave)
	r.gave = r.gave[handoff.TokenSize:]
	return token
}

func modelName(err error) string {
	var limit *handoff.PendingLimitError
	var collision *handoff.CollisionError
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, handoff.ErrTokenNotPending):
		return "not pending"
	case errors.Is(err, handoff.ErrTokenExpired):
		return "expired"
	case errors.Is(err, handoff.ErrTokenMismatch):
		return "mismatch"
	case errors.As(err, &limit):
		return "limit"
	case errors.As(err, &collision):
		return "collision"
	}
	return err.Error()
}

// TestTokensMatchModel runs any operations at times that mostly go forward and
// sometimes back, as they do between goroutines.
func TestTokensMatchModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		random := &recordingRandom{rt: rt}
		config := handoff.TokenConfig{
			MaxPending:        rapid.IntRange(1, 40).Draw(rt, "max"),
			TTL:               millis(rapid.IntRange(1, 50).Draw(rt, "ttl")),
			CollisionAttempts: rapid.IntRange(1, 3).Draw(rt, "attempts"),
			Random:            random,
		}
		tokens := handoff.NewTokens(config)
		model := &modelTokens{
			max: config.MaxPending, attempts: config.CollisionAttempts, ttl: config.TTL,
			expires: make(map[handoff.Token]time.Time),
		}
		now := 1000
		tick := func(rt *rapid.T) time.Time {
			now += rapid.IntRange(-2, 5).Draw(rt, "tick")
			return at(now)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"issue": func(rt *rapid.T) {
				when := tick(rt)
				token, err := tokens.Issue(when)
				wantToken, want := model.issue(random, when)
				if got := modelName(err); got != want || token != wantToken {
					rt.Fatalf("got %s, want %s; same token: %v", got, want, token == wantToken)
				}
			},
			"consume": func(rt *rapid.T) {
				when := tick(rt)
				expected := fewTokens().Draw(rt, "expected")
				presented := expected
				if rapid.Bool().Draw(rt, "forged") {
					presented = fewTokens().Draw(rt, "presented")
				}
				got := modelName(tokens.Consume(expected, presented[:], when))
				if want := model.consume(expected, presented, when); got != want {
					rt.Fatalf("got %s, want %s", got, want)
				}
			},
			"revoke": func(rt *rapid.T) {
				token := fewTokens().Draw(rt, "token")
				if got, want := tokens.Revoke(token), model.revoke(token); got != want {
					rt.Fatalf("got %v, want %v", got, want)
				}
			},
			"prune": func(rt *rapid.T) {
				when := tick(rt)
				if got, want := tokens.Prune(when), model.prune(when, nil); got != want {
					rt.Fatalf("got %d, want %d", got, want)
				}
			},
			"": func(rt *rapid.T) {
				if got, want := tokens.Pending(), len(model.expires); got != want {
					rt.Fatalf("%d pending, want %d", got, want)
				}
			},
		})
	})
}

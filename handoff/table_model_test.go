package handoff

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// modelTable is what spec 02 §2 and §3 say of a token that is registered when it is
// issued, word by word, and what became of every attempt that there was.
type modelTable struct {
	max, tries int
	pending    map[*Attempt]time.Time // when due
	numbers    map[uint64]*modelAttempt
}

type modelAttempt struct {
	attempt  *Attempt // nil when over
	channel  any
	slot     uint64
	answered bool
}

func (m *modelTable) expire(now time.Time) {
	for a, due := range m.pending {
		if !now.Before(due) {
			m.end(a, false)
		}
	}
}

func (m *modelTable) end(a *Attempt, answered bool) {
	delete(m.pending, a)
	m.numbers[a.number].attempt, m.numbers[a.number].answered = nil, answered
}

func (m *modelTable) holds(token Token) bool {
	for a := range m.pending {
		if a.token == token {
			return true
		}
	}
	return false
}

// issue says what Issue must answer, and takes the candidates that it takes.
func (m *modelTable) issue(random *recordingRandom, now time.Time) (Token, string) {
	if len(m.pending) >= m.max {
		if m.expire(now); len(m.pending) >= m.max {
			return Token{}, "limit"
		}
	}
	for range m.tries {
		if candidate := random.replay(); !m.holds(candidate) {
			return candidate, "ok"
		}
	}
	return Token{}, "collision"
}

// recordingRandom gives the table bytes in reads of any size and gives the model
// the same bytes again. Few values, so that tokens collide.
type recordingRandom struct {
	rt   *rapid.T
	gave []byte
}

// fewTokens differ in how they begin, when they differ.
func fewTokens() *rapid.Generator[Token] {
	return rapid.Custom(func(rt *rapid.T) (token Token) {
		token[0] = rapid.ByteRange(0, 31).Draw(rt, "first")
		token[15] = token[0]
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

func (r *recordingRandom) replay() Token {
	token := Token(r.gave)
	r.gave = r.gave[TokenSize:]
	return token
}

func modelName(err error) string {
	var limit *PendingLimitError
	var collision *CollisionError
	var late *AckDeadlineError
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrTokenNotPending):
		return "not pending"
	case errors.As(err, &late):
		return "late"
	case errors.Is(err, ErrTokenMismatch):
		return "mismatch"
	case errors.As(err, &limit):
		return "limit"
	case errors.As(err, &collision):
		return "collision"
	}
	return err.Error()
}

// TestTableMatchesModel runs any operations, with lives of any length, at times that
// sometimes go back; and asks after every number that there ever was, on either of two
// channels.
func TestTableMatchesModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		random := &recordingRandom{rt: rt}
		m := &modelTable{
			max:     rapid.IntRange(1, 20).Draw(rt, "max"),
			tries:   rapid.IntRange(1, 3).Draw(rt, "tries"),
			pending: make(map[*Attempt]time.Time),
			numbers: make(map[uint64]*modelAttempt),
		}
		table := randomTable(m.max, m.tries, random)
		channels := []any{new(byte), new(byte)}
		now := 1000
		tick := func(rt *rapid.T) time.Time {
			now += rapid.IntRange(-2, 5).Draw(rt, "tick")
			return at(now)
		}
		var all []*Attempt
		some := func(rt *rapid.T) *Attempt {
			if len(all) == 0 {
				rt.Skip("nothing was issued")
			}
			return all[rapid.IntRange(0, len(all)-1).Draw(rt, "which")]
		}
		rt.Repeat(map[string]func(*rapid.T){
			"issue": func(rt *rapid.T) {
				when, life := tick(rt), millis(rapid.IntRange(0, 50).Draw(rt, "life"))
				a := new(Attempt)
				err := table.Issue(a, life, when)
				token, want := m.issue(random, when)
				if got := modelName(err); got != want || a.token != token {
					rt.Fatalf("got %s, want %s; same token: %v", got, want, a.token == token)
				}
				if err != nil {
					return
				}
				if m.numbers[a.number] != nil || a.number == 0 {
					rt.Fatalf("number %d was used before", a.number)
				}
				a.Bind(channels[rapid.IntRange(0, 1).Draw(rt, "channel")], nil)
				all = append(all, a)
				m.pending[a] = when.Add(max(life, time.Millisecond))
				m.numbers[a.number] = &modelAttempt{attempt: a, channel: a.channel, slot: a.number & (1<<table.bits - 1)}
			},
			"acknowledge": func(rt *rapid.T) {
				a, when := some(rt), tick(rt)
				presented := a.token
				if rapid.Bool().Draw(rt, "forged") {
					presented = fewTokens().Draw(rt, "presented")
				}
				due, pending := m.pending[a]
				want := "ok"
				switch {
				case !pending:
					want = "not pending"
				case !when.Before(due):
					want = "late"
				case presented != a.token:
					want = "mismatch"
				}
				waited, err := a.acknowledge(presented[:], when)
				if got := modelName(err); got != want {
					rt.Fatalf("got %s, want %s", got, want)
				}
				if want == "ok" && waited != max(when.Sub(a.issued), 0) {
					rt.Fatalf("waited %s", waited)
				}
				if want == "ok" || want == "late" {
					m.end(a, true)
				}
			},
			"close": func(rt *rapid.T) {
				a := some(rt)
				a.Close()
				if _, pending := m.pending[a]; pending {
					m.end(a, false)
				}
			},
			"expire": func(rt *rapid.T) {
				when := tick(rt)
				table.expire(when)
				m.expire(when)
			},
			"": func(rt *rapid.T) { m.check(rt, table, channels) },
		})
	})
}

func (m *modelTable) check(rt *rapid.T, table *Table, channels []any) {
	if table.Pending() != len(m.pending) || len(table.slots) > m.max {
		rt.Fatalf("%d pending in %d slots, want %d in %d", table.Pending(), len(table.slots), len(m.pending), m.max)
	}
	newest := make(map[uint64]uint64) // the last number of each slot
	for number, was := range m.numbers {
		newest[was.slot] = max(newest[was.slot], number)
	}
	for number, was := range m.numbers {
		for _, c := range channels {
			got, why := table.Whose(number, c)
			want, reason := was.attempt, StrayLate
			switch {
			case want != nil && was.channel != c:
				want, reason = nil, StrayUnknown
			case want == nil && was.answered && newest[was.slot] == number:
				reason = StrayRepeated
			}
			if got != want || got == nil && why != reason {
				rt.Fatalf("number %d: found %v for reason %d, want %v, %d", number, got != nil, why, want != nil, reason)
			}
		}
	}
	for _, never := range []uint64{0, 1<<table.bits - 1, ^uint64(0), newest[0] + 1<<table.bits} {
		if m.numbers[never] != nil {
			continue
		}
		if got, why := table.Whose(never, channels[0]); got != nil || why != StrayUnknown {
			rt.Fatalf("number %d, which never was: %v", never, why)
		}
	}
}

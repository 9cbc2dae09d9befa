package handoff

import (
	"fmt"
	"io"
	"iter"
	"time"
)

// DefaultAckDeadline is how long a backend has to acknowledge a handoff
// (spec 02 §3).
const DefaultAckDeadline = 5 * time.Second

// Config bounds a Table (spec 02 §2). NewTable takes the numbers as given and
// raises those below their minimum; start from DefaultConfig.
type Config struct {
	MaxPending        int       // attempts, at least 1
	CollisionAttempts int       // candidates per token, at least 1
	Random            io.Reader // nil → crypto/rand
}

// DefaultConfig gives 1024 attempts and 16 candidates.
func DefaultConfig() Config { return Config{MaxPending: 1024, CollisionAttempts: 16} }

// Table holds the attempts that are pending: it is the token store and the
// acknowledgement registry of spec 02 §2 and §3 at once. An attempt is entered by
// Issue and leaves once: acknowledged, failed, given up or expired. Its token is
// good for as long as it is pending, which is until its acknowledgement is due.
//
// An attempt has a slot while it is pending, and its number names the slot and how
// often that was used: so an answer is looked up by an index. Tokens are compared,
// never looked up. Everything costs O(1), but for what happens at the bound or at a
// channel's end, which goes through what is pending.
//
// A Table belongs to one goroutine.
type Table struct {
	max, tries int
	tokens     candidates
	starts     starts // of the pending tokens

	slots   []slot // grows to max
	free    []uint32
	bits    uint       // of a number that name the slot
	pending []*Attempt // in no order
	due     time.Time  // no pending attempt is due earlier

	numbered uint64 // no attempt has had a higher number, here or before
	least    uint64 // that a slot's uses begin with
}

type slot struct {
	uses     uint64
	attempt  *Attempt // nil when free
	answered bool     // the last attempt here ended by an answer
}

// NewTable returns an empty table.
func NewTable(config Config) *Table {
	limit := max(config.MaxPending, 1)
	return &Table{
		max:    limit,
		tries:  max(config.CollisionAttempts, 1),
		tokens: newCandidates(config.Random),
		starts: newStarts(limit),
		bits:   bitsFor(limit),
	}
}

// Issue is step 5: it enters a, which is not pending, with a token of its own. The
// acknowledgement is due after life, of which 0 and less means 1 ms. It fails with
// *PendingLimitError (before any randomness is used), *CollisionError or
// *RandomError. a must stay where it is until it has ended.
func (t *Table) Issue(a *Attempt, life time.Duration, now time.Time) error {
	if len(t.pending) >= t.max {
		if t.expire(now); len(t.pending) >= t.max {
			return &PendingLimitError{Max: t.max}
		}
	}
	token, err := t.newToken()
	if err != nil {
		return err
	}
	at := t.takeSlot()
	s := &t.slots[at]
	s.uses = max(s.uses+1, t.least)
	s.attempt = a
	a.table, a.token, a.claim, a.channel = t, token, nil, nil
	a.number = s.uses<<t.bits | uint64(at)
	t.numbered = max(t.numbered, a.number)
	a.issued, a.life, a.sentAt = now, atLeastOneMilli(life), time.Time{}
	a.place = len(t.pending)
	t.pending = append(t.pending, a)
	if due := a.Deadline(); a.place == 0 || due.Before(t.due) {
		t.due = due
	}
	return nil
}

// newToken takes a candidate whose start no pending token has.
func (t *Table) newToken() (Token, error) {
	for range t.tries {
		candidate, err := t.tokens.take()
		if err != nil {
			return Token{}, &RandomError{Err: err}
		}
		if t.starts.add(candidate) {
			return candidate, nil
		}
	}
	return Token{}, &CollisionError{Attempts: t.tries}
}

func (t *Table) takeSlot() uint32 {
	if n := len(t.free); n > 0 {
		at := t.free[n-1]
		t.free = t.free[:n-1]
		return at
	}
	t.slots = append(t.slots, slot{})
	return uint32(len(t.slots) - 1)
}

// end takes a pending attempt out. From here on its token is worth nothing, and an
// answer to it finds nobody.
func (t *Table) end(a *Attempt, answered bool) {
	at := uint32(a.number & (1<<t.bits - 1))
	t.slots[at].attempt, t.slots[at].answered = nil, answered
	t.free = append(t.free, at)

	n := len(t.pending) - 1
	last := t.pending[n]
	t.pending[a.place], last.place = last, a.place
	t.pending[n] = nil
	t.pending = t.pending[:n]

	t.starts.remove(a.token)
	a.table = nil
}

// expire ends every attempt whose acknowledgement is overdue.
func (t *Table) expire(now time.Time) {
	if now.Before(t.due) {
		return
	}
	var next time.Time
	for i := len(t.pending) - 1; i >= 0; i-- {
		a := t.pending[i]
		switch due := a.Deadline(); {
		case !now.Before(due):
			t.end(a, false)
		case next.IsZero() || due.Before(next):
			next = due
		}
	}
	t.due = next
}

// Numbered is the highest number that an attempt has had, here or, as NumberAbove says,
// before.
func (t *Table) Numbered() uint64 { return t.numbered }

// NumberAbove has every later attempt have a number above n: an answer to an attempt of
// another table is then none to one of this.
func (t *Table) NumberAbove(n uint64) {
	t.numbered, t.least = max(t.numbered, n), max(t.least, n>>t.bits+1)
}

// Stray says why nobody waits for an answer.
type Stray int

// The kinds of answers that nobody waits for.
const (
	StrayLate     Stray = iota // its attempt ended without it, or its slot was used again since
	StrayRepeated              // its attempt has been answered
	StrayUnknown               // no such attempt was sent on this channel
)

// Whose says which pending attempt an answer is for that came on the channel that was bound
// to it; when there is none, why not. The token that the answer presents is not looked at.
func (t *Table) Whose(number uint64, channel any) (*Attempt, Stray) {
	at, uses := number&(1<<t.bits-1), number>>t.bits
	if uses == 0 || at >= uint64(len(t.slots)) {
		return nil, StrayUnknown
	}
	s := &t.slots[at]
	switch {
	case uses > s.uses, uses == s.uses && s.attempt != nil && s.attempt.channel != channel:
		return nil, StrayUnknown
	case uses == s.uses && s.attempt != nil:
		return s.attempt, 0
	case uses == s.uses && s.answered:
		return nil, StrayRepeated
	}
	return nil, StrayLate
}

// Acknowledged yields the pending attempts whose ACK stands in their backend's page.
// No message comes then: the caller looks now and then. It may end what is yielded,
// and issue others.
func (t *Table) Acknowledged() iter.Seq[*Attempt] {
	return func(yield func(*Attempt) bool) {
		for i := len(t.pending) - 1; i >= 0; i-- {
			if i < len(t.pending) && t.pending[i].Acknowledged() && !yield(t.pending[i]) {
				return
			}
		}
	}
}

// On returns the pending attempts that a channel is bound to.
func (t *Table) On(channel any) (pending []*Attempt) {
	for _, a := range t.pending {
		if a.channel == channel {
			pending = append(pending, a)
		}
	}
	return pending
}

// Pending counts the attempts held, with those overdue that nothing ended yet.
func (t *Table) Pending() int { return len(t.pending) }

// Format keeps the tokens out of logs: fmt would print the fields.
func (t *Table) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "handoff.Table(redacted)") }

// atLeastOneMilli is the clamp of every duration in spec 02 §2–4.
func atLeastOneMilli(d time.Duration) time.Duration {
	if d <= 0 {
		return time.Millisecond
	}
	return d
}

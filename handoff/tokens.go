package handoff

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// The texts of these errors travel in HandoffAck.error_detail (spec 02 §2, §8).
var (
	ErrTokenNotPending = errors.New("handoff token is not pending")
	ErrTokenExpired    = errors.New("handoff token expired")
	ErrTokenMismatch   = errors.New("handoff token mismatch")
)

// PendingLimitError reports that no token may be issued before one is consumed,
// revoked or expires.
type PendingLimitError struct {
	Max int // tokens
}

func (e *PendingLimitError) Error() string {
	return fmt.Sprintf("handoff token pending limit reached (%d)", e.Max)
}

// CollisionError reports a random source that gave only tokens already pending.
type CollisionError struct {
	Attempts int
}

func (e *CollisionError) Error() string {
	return fmt.Sprintf("handoff token allocation exhausted after %d collision attempts", e.Attempts)
}

// RandomError reports a random source that failed.
type RandomError struct {
	Err error
}

func (e *RandomError) Error() string {
	return fmt.Sprintf("handoff token random generation failed: %v", e.Err)
}

func (e *RandomError) Unwrap() error { return e.Err }

// TokenConfig bounds a token store (spec 02 §2). NewTokens takes the numbers as
// given and raises those below their minimum; start from DefaultTokenConfig.
type TokenConfig struct {
	MaxPending        int           // tokens, at least 1
	TTL               time.Duration // life of a token; 0 and less → 1 ms
	CollisionAttempts int           // candidates per token, at least 1
	Random            io.Reader     // nil → crypto/rand
}

// DefaultTokenConfig gives 1024 tokens, 30 s and 16 candidates.
func DefaultTokenConfig() TokenConfig {
	return TokenConfig{MaxPending: 1024, TTL: 30 * time.Second, CollisionAttempts: 16}
}

// Tokens is the store of pending tokens: each is issued once and consumed or
// revoked once. It is safe for concurrent use. Memory grows with the highest
// number pending at a time and is kept for reuse.
//
// Lock order: Acks.mu before mu; refilling before mu. Nobody waits for
// refilling while holding another lock.
type Tokens struct {
	max      int
	attempts int
	random   io.Reader

	refilling sync.Mutex // held across a read of random

	mu      sync.Mutex
	pending table[struct{}]
	block   [candidates * TokenSize]byte // block[next:end] is random and unused; while
	next    int                          // next == end, block belongs to the holder of
	end     int                          // refilling, else to the holder of mu
}

const candidates = 32 // tokens per read of the random source

// NewTokens returns an empty store.
func NewTokens(config TokenConfig) *Tokens {
	if config.Random == nil {
		config.Random = rand.Reader
	}
	return &Tokens{
		max:      max(config.MaxPending, 1),
		attempts: max(config.CollisionAttempts, 1),
		random:   config.Random,
		pending:  newTable[struct{}](atLeastOneMilli(config.TTL)),
	}
}

// Issue makes a token that is pending until now + TTL. It fails with
// *PendingLimitError (before any randomness is used), *CollisionError or
// *RandomError.
func (t *Tokens) Issue(now time.Time) (Token, error) {
	for attempts := 0; ; {
		token, err := t.issueFromBlock(now, &attempts)
		if !errors.Is(err, errBlockUsedUp) {
			return token, err
		}
		if err := t.refill(); err != nil {
			return Token{}, &RandomError{Err: err}
		}
	}
}

var errBlockUsedUp = errors.New("no random bytes left")

// issueFromBlock tries the candidates at hand. The limit is judged anew on each
// call, because the lock was given up in between.
func (t *Tokens) issueFromBlock(now time.Time, attempts *int) (Token, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending.prune(now, 0)
	if t.pending.used >= t.max {
		return Token{}, &PendingLimitError{Max: t.max}
	}
	for ; *attempts < t.attempts; *attempts++ {
		if t.next == t.end {
			return Token{}, errBlockUsedUp
		}
		candidate := t.takeCandidate()
		if t.pending.find(candidate) == 0 {
			t.pending.insert(candidate, struct{}{}, now)
			return candidate, nil
		}
	}
	return Token{}, &CollisionError{Attempts: t.attempts}
}

// Consume ends the token that was handed out as expected, if presented is the
// same bytes. It fails with ErrTokenNotPending, ErrTokenExpired (the token is
// gone then) or ErrTokenMismatch (the token stays pending).
func (t *Tokens) Consume(expected Token, presented []byte, now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.pending.find(expected)
	t.pending.prune(now, at)
	switch {
	case at == 0:
		return ErrTokenNotPending
	case t.pending.expired(at, now):
		t.pending.remove(at)
		return ErrTokenExpired
	case !expected.Equal(presented):
		return ErrTokenMismatch
	}
	t.pending.remove(at)
	return nil
}

// Revoke ends a token without use and reports whether it was pending.
func (t *Tokens) Revoke(token Token) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.pending.find(token)
	if at == 0 {
		return false
	}
	t.pending.remove(at)
	return true
}

// Prune removes the expired tokens and returns how many they were.
func (t *Tokens) Prune(now time.Time) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pending.prune(now, 0)
}

// Pending counts the tokens held, with the expired ones that nothing pruned yet.
func (t *Tokens) Pending() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pending.used
}

// Format keeps the tokens out of logs: fmt would print the fields.
func (t *Tokens) Format(s fmt.State, _ rune) {
	_, _ = io.WriteString(s, "handoff.Tokens(redacted)")
}

// takeCandidate takes 16 random bytes out of the block and wipes them there.
// The caller holds mu and has seen that some are left.
func (t *Tokens) takeCandidate() Token {
	unused := t.block[t.next:t.end]
	candidate := Token(unused)
	clear(unused[:TokenSize])
	t.next += TokenSize
	return candidate
}

// refill reads one block of random bytes without holding mu, so that a slow
// random source delays nobody who needs none. One caller reads; those who
// waited for it find the block filled.
func (t *Tokens) refill() error {
	t.refilling.Lock()
	defer t.refilling.Unlock()
	if t.hasRandom() {
		return nil
	}
	n, err := io.ReadAtLeast(t.random, t.block[:], TokenSize)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next, t.end = 0, n-n%TokenSize
	return nil
}

func (t *Tokens) hasRandom() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.next < t.end
}

// atLeastOneMilli is the clamp of every duration in spec 02 §2–4.
func atLeastOneMilli(d time.Duration) time.Duration {
	if d <= 0 {
		return time.Millisecond
	}
	return d
}

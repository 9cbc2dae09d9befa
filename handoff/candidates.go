package handoff

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
)

// PendingLimitError reports that no token may be issued before an attempt ends.
type PendingLimitError struct {
	Max int // attempts
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

// candidates reads random bytes in blocks and gives them out as tokens.
type candidates struct {
	random io.Reader
	block  [32 * TokenSize]byte // block[next:end] is random and unused
	next   int
	end    int
}

func newCandidates(random io.Reader) candidates {
	if random == nil {
		random = rand.Reader
	}
	return candidates{random: random}
}

// take returns the next candidate and wipes it in the block.
func (c *candidates) take() (Token, error) {
	if c.next == c.end {
		n, err := io.ReadAtLeast(c.random, c.block[:], TokenSize)
		if err != nil {
			return Token{}, err
		}
		c.next, c.end = 0, n-n%TokenSize
	}
	unused := c.block[c.next:c.end]
	candidate := Token(unused)
	clear(unused[:TokenSize])
	c.next += TokenSize
	return candidate, nil
}

// starts has a bit for each way that a token can begin, and the bits of the pending
// ones are set. A candidate that begins like a pending token is refused, so no two
// pending tokens are equal. There are startsPerToken times as many bits as tokens: of
// candidates for a full table one in that many is refused without need, and the next
// one taken.
type starts []uint64

const startsPerToken = 8

// newStarts returns an empty set for the starts of n tokens.
func newStarts(n int) starts { return make(starts, 1<<bitsFor(n*startsPerToken/64)) }

// add enters token's start, unless it is there.
func (s starts) add(token Token) bool {
	word, bit := s.place(token)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}

func (s starts) remove(token Token) {
	word, bit := s.place(token)
	*word &^= bit
}

func (s starts) place(token Token) (word *uint64, bit uint64) {
	start := binary.LittleEndian.Uint64(token[:])
	return &s[start/64&uint64(len(s)-1)], 1 << (start % 64)
}

// bitsFor is how many bits it takes to tell n things apart.
func bitsFor(n int) uint { return uint(bits.Len(uint(max(n, 1) - 1))) }

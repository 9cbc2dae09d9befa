package claim

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/seed-7265657e/usher/internal/sock"
)

// Page is memory that the broker and one backend share, with a claim in each of
// its words: taking one is a compare-and-swap, where a descriptor costs four
// system calls and room in two tables. The word carries the acknowledgement too,
// so that no message need wake the broker for it (docs/protocol.md, section "The
// page").
//
// The broker makes the page and says which word, at which generation, a claim is;
// a word is used again at a higher generation alone, so whoever slept through the
// end of a claim finds another one in its place, and can't take it for his own.
// The page can be neither shortened nor unmapped under the other side. What a
// side writes into it that no side ever would decides nothing (ErrCorrupt).
//
// A Page is safe for concurrent use.
type Page struct {
	words []atomic.Uint64
	unmap func()

	// Of the broker's side.
	memory *sock.FD // for another broker to get; nil on the backend's side
	mu     sync.Mutex
	claims []Claim  // one per word
	free   []uint32 // words without a claim; the last is used next
	closed bool
}

// pageSize is the size of a page in bytes, the same on every system.
const pageSize = 4096

// Words is how many claims a page holds.
const Words = pageSize / 8

// A word is a generation, from 1 up, and below it a state. So zeros, which is
// what a hole in the memory reads as, are no claim.
const (
	untaken uint64 = iota // holds its unit
	taken                 // by the backend
	acked                 // by the backend, which has said that it adopted
	over                  // taken by the broker, or ended

	states = 4
)

// ErrPageFull says that all words of a page are in use.
var ErrPageFull = errors.New("no word is free in the page of claims")

// New makes a claim of a free word. The broker calls it, and closes the claim. The
// error is ErrPageFull, or wraps ErrUnavailable after Close.
func (p *Page) New() (*Claim, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return nil, fmt.Errorf("%w: its page is closed", ErrUnavailable)
	case len(p.free) == 0:
		return nil, ErrPageFull
	}
	c := &p.claims[p.free[len(p.free)-1]]
	p.free = p.free[:len(p.free)-1]
	c.generation++
	c.open = true
	p.words[c.slot].Store(c.word(untaken))
	return c, nil
}

// Pass returns a descriptor of the page, which the caller owns, and the highest generation
// that a claim in it has had, for ResumePage in another process. It fails while a claim is
// open: no two processes are the broker's side of one. Behind Pass no claim is to be made
// here.
func (p *Page) Pass() (fd *sock.FD, generation uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.free) < len(p.claims) {
		return nil, 0, fmt.Errorf("%w: the page is in use, or closed", ErrUnavailable)
	}
	for i := range p.claims {
		generation = max(generation, p.claims[i].generation)
	}
	fd, err = sock.DuplicateOf(p.memory)
	return fd, generation, err
}

// Claim is the backend's side of a claim, as its offer names it. The error wraps
// ErrForeign.
func (p *Page) Claim(slot uint32, generation uint64) (*Claim, error) {
	if uint64(slot) >= uint64(len(p.words)) || generation == 0 || generation > ^uint64(0)/states {
		return nil, fmt.Errorf("%w: word %d, generation %d", ErrForeign, slot, generation)
	}
	return &Claim{page: p, slot: slot, generation: generation, received: true}, nil
}

// Close frees the page, on the broker's side as soon as the last claim in it is
// closed. It may be called again.
func (p *Page) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.closed = true
		p.freeUnused()
	}
}

// freeUnused frees a closed page without claims. The caller holds mu.
func (p *Page) freeUnused() {
	if len(p.free) == len(p.claims) {
		p.words = nil
		p.unmap()
		if p.memory != nil {
			p.memory.Close()
		}
	}
}

func (c *Claim) word(state uint64) uint64 { return c.generation*states + state }

// takeWord is Take in a page.
func (c *Claim) takeWord() (bool, error) {
	at, mine := &c.page.words[c.slot], c.word(over)
	if c.received {
		mine = c.word(taken)
	}
	if at.CompareAndSwap(c.word(untaken), mine) {
		return true, nil
	}
	switch now := at.Load(); {
	case c.received && now/states > c.generation: // ended, and used again
		return false, nil
	case now/states != c.generation, now%states == untaken:
		return false, ErrCorrupt
	}
	return false, nil
}

// closeWord ends the claim: who takes or acknowledges it later fails.
func (c *Claim) closeWord() {
	if c.received {
		return
	}
	p := c.page
	p.mu.Lock()
	defer p.mu.Unlock()
	if !c.open {
		return
	}
	c.open = false
	p.words[c.slot].Store(c.word(over))
	p.free = append(p.free, c.slot)
	if p.closed {
		p.freeUnused()
	}
}

// InPage returns which word of the page the claim is, and at which generation;
// false when it is a descriptor.
func (c *Claim) InPage() (slot uint32, generation uint64, ok bool) {
	return c.slot, c.generation, c.page != nil
}

// Acknowledge says in the page that the backend, which has taken the claim,
// adopted the connection. False means that the broker must be told by message:
// the claim is a descriptor, or the broker no longer waits.
func (c *Claim) Acknowledge() bool {
	return c.page != nil && c.page.words[c.slot].CompareAndSwap(c.word(taken), c.word(acked))
}

// Acknowledged reports whether the backend has said in the page that it adopted
// the connection.
func (c *Claim) Acknowledged() bool {
	return c.page != nil && c.page.words[c.slot].Load() == c.word(acked)
}

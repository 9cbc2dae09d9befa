package handoff

import (
	"encoding/binary"
	"time"
)

// table keeps entries by token and by age. Find, insert and remove cost O(1)
// whatever is held, and none of them allocates once the table has grown to its
// working size.
//
//	slots   one slot per entry; slot 0 anchors the ring of ages:
//	        0.newer is the oldest entry, 0.older the newest
//	heads   index: low token bits → first slot of a chain, 0 = empty
//	free    chain of slots that can be used again, 0 = none
//
// Every entry lives equally long, so the order by age is the order of expiry.
// The index takes token bits as they are: tokens come from a random source, and
// nothing a peer presents is ever inserted.
//
// A table is not safe for concurrent use; its owner holds the lock.
type table[V any] struct {
	life  time.Duration
	slots []slot[V]
	heads []uint32
	free  uint32
	used  int
}

type slot[V any] struct {
	value        V
	token        Token
	since        time.Time
	older, newer uint32
	chain        uint32
}

const (
	firstHeads = 16 // a power of two, as every later size
	// sparse is how many times more chains than entries there are at least, so that
	// most chains hold one entry: a second one is another slot to look into, which
	// with many pending is no longer in the processor's cache.
	sparse = 4
)

func newTable[V any](life time.Duration) table[V] {
	return table[V]{life: life}
}

// find returns the slot of token, or 0.
func (t *table[V]) find(token Token) uint32 {
	if t.used == 0 {
		return 0
	}
	at := t.heads[t.head(token)]
	for at != 0 && !t.slots[at].token.Equal(token[:]) {
		at = t.slots[at].chain
	}
	return at
}

// insert adds an entry. The caller has made sure that token is not held.
func (t *table[V]) insert(token Token, value V, now time.Time) {
	if t.used*sparse >= len(t.heads) {
		t.grow()
	}
	at := t.takeSlot()
	after := t.youngestBy(now)
	before := t.slots[after].newer
	head := t.head(token)
	t.slots[at] = slot[V]{
		value: value, token: token, since: now,
		older: after, newer: before, chain: t.heads[head],
	}
	t.slots[after].newer = at
	t.slots[before].older = at
	t.heads[head] = at
	t.used++
}

// remove forgets the entry in slot at and wipes its token.
func (t *table[V]) remove(at uint32) {
	gone := t.slots[at]
	t.slots[gone.older].newer = gone.newer
	t.slots[gone.newer].older = gone.older

	link := &t.heads[t.head(gone.token)]
	for *link != at {
		link = &t.slots[*link].chain
	}
	*link = gone.chain

	t.slots[at] = slot[V]{chain: t.free}
	t.free = at
	t.used--
}

// oldest returns the slot of the oldest entry, or 0.
func (t *table[V]) oldest() uint32 {
	if t.used == 0 {
		return 0
	}
	return t.slots[0].newer
}

// expired reports whether the entry's life is over: now ≥ since + life.
func (t *table[V]) expired(at uint32, now time.Time) bool {
	return now.Sub(t.slots[at].since) >= t.life
}

// prune removes every expired entry but keep (0 = none) and returns how many.
func (t *table[V]) prune(now time.Time, keep uint32) int {
	before := t.used
	for at := t.oldest(); at != 0 && t.expired(at, now); {
		next := t.slots[at].newer
		if at != keep {
			t.remove(at)
		}
		at = next
	}
	return before - t.used
}

// youngestBy returns the newest entry that is no younger than now, or 0. It is
// the newest of all unless callers that read the clock at the same time got the
// lock in another order, so the walk is as long as that mix-up.
func (t *table[V]) youngestBy(now time.Time) uint32 {
	at := t.slots[0].older
	for at != 0 && t.slots[at].since.After(now) {
		at = t.slots[at].older
	}
	return at
}

func (t *table[V]) takeSlot() uint32 {
	if at := t.free; at != 0 {
		t.free = t.slots[at].chain
		return at
	}
	t.slots = append(t.slots, slot[V]{})
	return uint32(len(t.slots) - 1)
}

func (t *table[V]) head(token Token) uint32 {
	return binary.LittleEndian.Uint32(token[:]) & uint32(len(t.heads)-1)
}

// grow doubles the index, so that a chain holds one entry on average, and makes
// the anchor the first time.
func (t *table[V]) grow() {
	if len(t.heads) == 0 {
		t.heads = make([]uint32, firstHeads)
		t.slots = make([]slot[V], 1, 1+firstHeads)
		return
	}
	t.heads = make([]uint32, 2*len(t.heads))
	for at := t.slots[0].newer; at != 0; at = t.slots[at].newer {
		head := t.head(t.slots[at].token)
		t.slots[at].chain = t.heads[head]
		t.heads[head] = at
	}
}

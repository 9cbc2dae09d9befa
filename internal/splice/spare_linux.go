//go:build linux && !usher_portable

package splice

import "sync"

// spare are empty pipes and sets that nobody uses, for those who copy: who waits holds no
// pipe, and a connection that comes need not make a set. Behind the last who copies there
// are none.
var spare spares

type spares struct {
	sync.Mutex
	pipes  []*pipe
	sets   []*set
	copies int
}

// mostSpare bounds them.
const mostSpare = 64

type closer interface{ close() }

func begin() {
	spare.Lock()
	defer spare.Unlock()
	spare.copies++
}

func end() {
	spare.Lock()
	defer spare.Unlock()
	if spare.copies--; spare.copies > 0 {
		return
	}
	for _, p := range spare.pipes {
		p.close()
	}
	for _, s := range spare.sets {
		s.close()
	}
	spare.pipes, spare.sets = nil, nil
}

func (s *spares) pipe() *pipe { return take(&s.pipes) }

func (s *spares) set() *set { return take(&s.sets) }

// take returns one of those in from, or nil.
func take[T any](from *[]*T) (v *T) {
	spare.Lock()
	defer spare.Unlock()
	if last := len(*from) - 1; last >= 0 {
		v, *from = (*from)[last], (*from)[:last]
	}
	return v
}

// give puts v among those in to, or closes it where there are enough, or nobody copies.
func give[T closer](to *[]T, v T) {
	spare.Lock()
	defer spare.Unlock()
	if spare.copies > 0 && len(*to) < mostSpare {
		*to = append(*to, v)
	} else {
		v.close()
	}
}

package handoff

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// load holds a number of pending attempts and replaces one per step.
type load struct {
	table    *Table
	attempts []Attempt // and one more, which is not pending
	order    []int     // the places to replace, in turn
	turn     int
	spare    int
	now      time.Time
}

func newLoad(tb testing.TB, pending int, shuffled bool) *load {
	tb.Helper()
	config := DefaultConfig()
	config.MaxPending = pending + 1
	l := &load{table: NewTable(config), attempts: make([]Attempt, pending+1), order: make([]int, pending), spare: pending, now: epoch}
	for i := range pending {
		l.order[i] = i
		l.issue(tb, i)
	}
	if shuffled {
		rand.New(rand.NewPCG(1, 2)).Shuffle(pending, func(i, j int) { l.order[i], l.order[j] = l.order[j], l.order[i] })
	}
	return l
}

func (l *load) issue(tb testing.TB, at int) {
	l.now = l.now.Add(time.Nanosecond)
	if err := l.table.Issue(&l.attempts[at], time.Hour, l.now); err != nil {
		tb.Fatal(err)
	}
}

func (l *load) step(tb testing.TB) {
	l.issue(tb, l.spare)
	place := &l.order[l.turn]
	l.turn = (l.turn + 1) % len(l.order)
	oldest := &l.attempts[*place]
	if out := oldest.Acked(l.now); out.Err != nil {
		tb.Fatal(out.Err)
	}
	*place, l.spare = l.spare, *place
}

// BenchmarkTokens is one issue and one acknowledgement while others are pending.
func BenchmarkTokens(b *testing.B) {
	for _, order := range []string{"fifo", "random"} {
		for _, pending := range []int{10, 10_000, 100_000} {
			b.Run(fmt.Sprintf("order=%s/pending=%d", order, pending), func(b *testing.B) {
				l := newLoad(b, pending, order == "random")
				b.ReportAllocs()
				for b.Loop() {
					l.step(b)
				}
			})
		}
	}
}

func TestTableDoesNotAllocate(t *testing.T) {
	l := newLoad(t, 1000, true)
	l.step(t)
	if allocs := testing.AllocsPerRun(1000, func() { l.step(t) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// TestFullTableGivesTokens: with all but one pending, a start that is in use is found
// often, and another candidate taken; no two tokens are equal.
func TestFullTableGivesTokens(t *testing.T) {
	l := newLoad(t, 1023, true)
	for range 100_000 {
		l.step(t)
	}
	seen := make(map[Token]bool)
	for _, a := range l.table.On(nil) {
		seen[a.token] = true
	}
	if len(seen) != 1023 {
		t.Errorf("%d different tokens among 1023", len(seen))
	}
	used := 0
	for _, word := range l.table.starts {
		for ; word != 0; word &= word - 1 {
			used++
		}
	}
	if used != 1023 {
		t.Errorf("%d starts are in use", used)
	}
}

//go:build unix || windows

package loop_test

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/loop"
	"github.com/seed-7265657e/usher/internal/testutil"
)

const patience = 30 * time.Second

func never(time.Time) time.Time { return time.Time{} }

// running is a loop in its goroutine, ended with the test.
func running(t *testing.T, tick func(time.Time) time.Time) *loop.Loop {
	t.Helper()
	testutil.Leaks(t)
	l, err := loop.New(tick, nil)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- l.Run() }()
	t.Cleanup(func() {
		l.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		l.Close()
		l.Close()
		if l.Post(func() { t.Error("run after the end") }) {
			t.Error("Post after the end")
		}
	})
	return l
}

// on runs f on the loop and waits for it.
func on(t *testing.T, l *loop.Loop, f func()) {
	t.Helper()
	done := make(chan struct{})
	if !l.Post(func() { defer close(done); f() }) {
		t.Fatal("the loop has ended")
	}
	wait(t, done)
}

func wait[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatal("nothing happens")
	}
	return v
}

// TestPost: what many goroutines post runs once each, in the order of each one.
func TestPost(t *testing.T) {
	l := running(t, never)
	const posters, each = 8, 1000
	var wg sync.WaitGroup
	next := [posters]int{} // the loop's
	for i := range posters {
		wg.Go(func() {
			for n := range each {
				l.Post(func() {
					if next[i] != n {
						t.Errorf("poster %d: %d came for %d", i, n, next[i])
					}
					next[i]++
				})
			}
		})
	}
	wg.Wait()
	on(t, l, func() {
		for i, n := range next {
			if n != each {
				t.Errorf("poster %d: %d of %d ran", i, n, each)
			}
		}
	})
}

// TestTick comes at the earliest time asked for, and then when it asked for itself.
func TestTick(t *testing.T) {
	ticks := make(chan time.Time, 16)
	again := 2
	l := running(t, func(now time.Time) time.Time {
		ticks <- now
		if again--; again > 0 {
			return now.Add(10 * time.Millisecond)
		}
		return time.Time{}
	})
	began := time.Now()
	on(t, l, func() {
		l.WakeAt(began.Add(time.Hour))
		l.WakeAt(began.Add(20 * time.Millisecond))
		l.WakeAt(began.Add(time.Minute))
		l.WakeAt(time.Time{}) // never
	})
	first := wait(t, ticks)
	if first.Before(began.Add(20 * time.Millisecond)) {
		t.Errorf("the first after %v", first.Sub(began))
	}
	if second := wait(t, ticks); second.Before(first.Add(10 * time.Millisecond)) {
		t.Errorf("the second %v later", second.Sub(first))
	}
	on(t, l, func() { l.WakeAt(time.Unix(1, 0)) }) // long past: at once
	wait(t, ticks)
}

// TestNeverRun: a loop that never ran frees what it owns, and runs what it has taken
// in.
func TestNeverRun(t *testing.T) {
	testutil.Leaks(t)
	l, err := loop.New(never, nil)
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	if !l.Post(func() { ran++ }) {
		t.Error("refused before Run")
	}
	l.Close()
	l.Close()
	if ran != 1 {
		t.Errorf("run %d times", ran)
	}
	if l.Post(func() { t.Error("run after Close") }) {
		t.Error("taken in after Close")
	}
}

// TestPostedIsRun: what many goroutines post while the loop stops is either run, by
// the time Run returns, or refused; and once Run has returned, before Close, all is
// refused.
func TestPostedIsRun(t *testing.T) {
	testutil.Leaks(t)
	for range 200 {
		l, err := loop.New(never, nil)
		if err != nil {
			t.Fatal(err)
		}
		var accepted, ran atomic.Int64
		var posters sync.WaitGroup
		for range 4 {
			posters.Go(func() {
				for n := 0; n < 10_000 && l.Post(func() { ran.Add(1) }); n++ {
					accepted.Add(1)
				}
			})
		}
		ended := make(chan error, 1)
		go func() { ended <- l.Run() }()
		l.Stop()
		if err := wait(t, ended); err != nil {
			t.Fatal(err)
		}
		if l.Post(func() { t.Error("run after Run") }) {
			t.Error("a loop that has stopped takes more in")
		}
		posters.Wait()
		l.Close()
		if accepted.Load() != ran.Load() {
			t.Fatalf("%d were taken in, %d ran", accepted.Load(), ran.Load())
		}
	}
}

// TestPostedByThePosted: also what the last ones post themselves is run before Run
// returns, in its order.
func TestPostedByThePosted(t *testing.T) {
	testutil.Leaks(t)
	l, err := loop.New(never, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var order []int
	var post func(n int)
	post = func(n int) {
		taken := l.Post(func() {
			order = append(order, n)
			if n < 3 {
				post(n + 1)
			}
		})
		if !taken {
			t.Errorf("%d is refused", n)
		}
	}
	l.Stop()
	post(0)
	if err := l.Run(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(order, []int{0, 1, 2, 3}) {
		t.Errorf("%v ran", order)
	}
}

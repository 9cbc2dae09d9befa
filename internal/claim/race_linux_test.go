package claim

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
)

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func() error{"racer": raceAsBackend})
}

const (
	raceRounds      = 100_000
	raceRoundsShort = 5_000
	raceBatch       = 200 // claims in one message
	raceLimit       = time.Minute
	racePause       = 300 // reads of memory
	racePauseMost   = 1 << 20
)

// arena is one page that both processes of the race share.
type arena struct {
	at    [2]paddedCounter // the round that each side has reached
	pause [2]paddedCounter // before the claim, at most; it changes between batches
	wins  [2][raceBatch]atomic.Uint32
}

// paddedCounter has a cache line of its own.
type paddedCounter struct {
	atomic.Int64
	_ [56]byte
}

// wait says that side has reached round, and waits until the other one has. It
// spins, because both must leave at the same time, and yields when the other
// has no processor.
func (a *arena) wait(side int, round int64) error {
	a.at[side].Store(round)
	other := &a.at[1-side]
	for spins, start := 0, time.Now(); other.Load() < round; spins++ {
		if spins%1000 != 999 {
			continue
		}
		if time.Since(start) > raceLimit {
			return errors.New("the other process does not come to the start")
		}
		_, _, _ = unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	}
	return nil
}

// race runs one batch: both sides start at each claim together, and each notes
// what it got. The random pause, of a fraction of a microsecond or as long as it takes,
// keeps the side that is faster in general from winning always.
func (a *arena) race(side int, claims []*Claim, round *int64) error {
	for i, c := range claims {
		*round++
		pause := rand.Int64N(a.pause[side].Load())
		if err := a.wait(side, *round); err != nil {
			return err
		}
		for range pause {
			a.wins[side][i].Load()
		}
		won, err := c.Take()
		if err != nil {
			return err
		}
		a.wins[side][i].Store(0)
		if won {
			a.wins[side][i].Store(1)
		}
		c.Close()
	}
	*round++
	return a.wait(side, *round) // all is noted
}

// handicap makes a side that has won nearly all of a batch pause longer in the next one, or
// the other less long, if it did.
func (a *arena) handicap(won [2]int) {
	for side, n := range won {
		own, others := &a.pause[side], &a.pause[1-side]
		switch {
		case n < raceBatch*9/10:
		case others.Load() > racePause:
			others.Store(others.Load() / 2)
		case own.Load() < racePauseMost:
			own.Store(own.Load() * 2)
		}
	}
}

func openArena(file *os.File) (*arena, func(), error) {
	size := int(unsafe.Sizeof(arena{}))
	page, err := unix.Mmap(int(file.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, err
	}
	return (*arena)(unsafe.Pointer(&page[0])), func() { _ = unix.Munmap(page) }, nil
}

// TestTwoProcessesRace is the rule that everything rests on: of two processes
// that take the same claim at the same time, exactly one gets it.
func TestTwoProcessesRace(t *testing.T) {
	makers := make(map[string]func() (*Claim, error))
	shared, err := os.Open(os.DevNull) // in the place of a page where there is none
	if page, fd, none := NewPage(); none == nil {
		t.Cleanup(page.Close)
		_ = shared.Close()
		shared, err = fd.File("page")
		makers["page"] = page.New
	} else if !errors.Is(none, errors.ErrUnsupported) {
		t.Fatal(none)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = shared.Close() })
	for name, k := range kinds {
		makers[name] = func() (*Claim, error) { return create(k) }
	}
	for name, make := range makers {
		t.Run(name, func(t *testing.T) {
			rounds := raceRounds
			if testing.Short() {
				rounds = raceRoundsShort
			}
			testutil.Leaks(t)
			won := raceAsBroker(t, make, shared, rounds/raceBatch)
			t.Logf("the broker won %d, the backend %d", won[0], won[1])
		})
	}
}

// batch is what the helper process is sent: which words of the page its claims are,
// or nothing when they come as descriptors.
type batch struct {
	Words       []uint32
	Generations []uint64
}

// raceAsBroker makes the claims and sends each to the helper process, races it,
// and judges. It returns how often each side won. Where that is seldom for one of them it
// goes on, and the other pauses longer from batch to batch.
func raceAsBroker(t *testing.T, newClaim func() (*Claim, error), page *os.File, batches int) (won [2]int) {
	fd, err := unix.MemfdCreate("race", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	shared := os.NewFile(uintptr(fd), "race")
	defer func() { _ = shared.Close() }()
	if err := shared.Truncate(int64(unsafe.Sizeof(arena{}))); err != nil {
		t.Fatal(err)
	}
	a, unmap, err := openArena(shared)
	if err != nil {
		t.Fatal(err)
	}
	defer unmap()
	fds := testutil.FDPair(t, unix.SOCK_SEQPACKET)
	near, far := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	defer func() { _ = near.Close() }()
	helper := testutil.Helper(t, "racer", far, shared, page)
	err = helper.Start()
	_ = far.Close()
	if err != nil {
		t.Fatal(err)
	}
	for side := range a.pause {
		a.pause[side].Store(racePause)
	}
	var round int64
	enough := batches * raceBatch / 100
	for n := 0; n < batches || min(won[0], won[1]) < enough; n++ {
		if n >= 10*batches {
			t.Fatalf("after %d batches the broker has won %d times, the backend %d times: this was no race", n, won[0], won[1])
		}
		claims, raw, sent := make([]*Claim, raceBatch), make([]int, 0, raceBatch), batch{}
		for i := range claims {
			if claims[i], err = newClaim(); err != nil {
				t.Fatal(err)
			}
			if word, generation, ok := claims[i].InPage(); ok {
				sent.Words, sent.Generations = append(sent.Words, word), append(sent.Generations, generation)
			} else {
				raw = append(raw, sock.Number(claims[i].Descriptor()))
			}
		}
		message, err := json.Marshal(sent)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := testutil.SendFDs(fds[0], message, raw...); err != nil {
			t.Fatal(err)
		}
		if err := a.race(0, claims, &round); err != nil {
			t.Fatal(err)
		}
		var batchWon [2]int
		for i := range claims {
			broker, backend := a.wins[0][i].Load(), a.wins[1][i].Load()
			if broker+backend != 1 {
				t.Fatalf("claim %d of round %d had %d winners", i, round, broker+backend)
			}
			won[0] += int(broker)
			won[1] += int(backend)
			batchWon[0] += int(broker)
			batchWon[1] += int(backend)
		}
		a.handicap(batchWon)
		round++
		if err := a.wait(0, round); err != nil { // all is judged
			t.Fatal(err)
		}
	}
	_ = near.Close()
	if err := helper.Wait(); err != nil {
		t.Error(err)
	}
	return won
}

// raceAsBackend is the helper process: it takes what it is sent until the other
// side closes.
func raceAsBackend() error {
	offers := os.NewFile(3, "offers")
	a, unmap, err := openArena(os.NewFile(4, "race"))
	if err != nil {
		return err
	}
	defer unmap()
	page, err := ReceivePage(sock.Own(5))
	switch {
	case err == nil:
		defer page.Close()
	case !errors.Is(err, errors.ErrUnsupported):
		return err
	}
	buf := make([]byte, 64<<10)
	for round := int64(0); ; {
		m, err := sock.Receive(offers, buf)
		if err != nil || m.N == 0 {
			return err
		}
		var sent batch
		if err := json.Unmarshal(buf[:m.N], &sent); err != nil {
			return err
		}
		if n := m.FDs.Len() + len(sent.Words); n != raceBatch || m.Fault != nil {
			return fmt.Errorf("%d claims, %v", n, m.Fault)
		}
		claims := make([]*Claim, raceBatch)
		for i := range claims {
			if len(sent.Words) > 0 {
				claims[i], err = page.Claim(sent.Words[i], sent.Generations[i])
			} else {
				claims[i], err = Receive(m.FDs.Take(i))
			}
			if err != nil {
				return err
			}
		}
		if err := a.race(1, claims, &round); err != nil {
			return err
		}
		round++
		if err := a.wait(1, round); err != nil {
			return err
		}
	}
}

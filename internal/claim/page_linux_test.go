//go:build linux && !usher_portable

package claim

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// sharedPage is a page as broker and backend have it, and its descriptor.
func sharedPage(t *testing.T) (broker, backend *Page, fd int) {
	t.Helper()
	broker, own, err := NewPage()
	if err != nil {
		t.Fatal(err)
	}
	if fd, err = unix.Dup(sock.Number(own)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	t.Cleanup(broker.Close)
	backend, err = ReceivePage(own)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(backend.Close)
	return broker, backend, fd
}

// offered makes a claim and returns it as each side has it.
func offered(t *testing.T, broker, backend *Page) (mine, theirs *Claim) {
	t.Helper()
	mine, err := broker.New()
	if err != nil {
		t.Fatal(err)
	}
	word, generation, ok := mine.InPage()
	if !ok || mine.Descriptor() != nil {
		t.Fatal("it is not in the page")
	}
	if theirs, err = backend.Claim(word, generation); err != nil {
		t.Fatal(err)
	}
	return mine, theirs
}

func TestWordIsTakenOnce(t *testing.T) {
	testutil.Leaks(t)
	broker, backend, _ := sharedPage(t)
	for first := range 2 {
		mine, theirs := offered(t, broker, backend)
		both := []*Claim{mine, theirs}
		checkTake(t, both[first], true)
		checkTake(t, both[first], false)
		checkTake(t, both[1-first], false)
		mine.Close()
		theirs.Close()
	}
}

// TestWordIsUsedAgain: a backend that slept through the end of its claim finds
// another one in its place, and can neither take nor acknowledge it.
func TestWordIsUsedAgain(t *testing.T) {
	testutil.Leaks(t)
	broker, backend, _ := sharedPage(t)
	for _, taken := range []bool{false, true} {
		mine, slept := offered(t, broker, backend)
		if taken {
			checkTake(t, slept, true)
		}
		mine.Close()
		for range 3 {
			checkTake(t, slept, false)
			if slept.Acknowledge() {
				t.Error("a claim that is over was acknowledged")
			}
			again, theirs := offered(t, broker, backend)
			if again.Acknowledged() {
				t.Error("a new claim is acknowledged already")
			}
			checkTake(t, slept, false)
			if slept.Acknowledge() {
				t.Error("another claim was acknowledged")
			}
			checkTake(t, theirs, true)
			if !theirs.Acknowledge() || !again.Acknowledged() {
				t.Error("the new claim was not acknowledged")
			}
			again.Close()
		}
	}
}

func TestAcknowledge(t *testing.T) {
	testutil.Leaks(t)
	broker, backend, _ := sharedPage(t)
	mine, theirs := offered(t, broker, backend)
	if theirs.Acknowledge() {
		t.Error("acknowledged without having been taken")
	}
	checkTake(t, theirs, true)
	if mine.Acknowledged() {
		t.Error("taken is not acknowledged")
	}
	if !theirs.Acknowledge() || !mine.Acknowledged() {
		t.Error("not acknowledged")
	}
	if theirs.Acknowledge() {
		t.Error("acknowledged twice")
	}
	checkTake(t, mine, false)
	mine.Close()
	mine.Close()

	mine, theirs = offered(t, broker, backend)
	checkTake(t, mine, true)
	if theirs.Acknowledge() || mine.Acknowledged() {
		t.Error("acknowledged what the broker has taken back")
	}
	mine.Close()

	descriptor := mustMake(t, system)
	checkTake(t, descriptor, true)
	if descriptor.Acknowledge() || descriptor.Acknowledged() {
		t.Error("a descriptor knows no acknowledgement")
	}
}

func TestPageFills(t *testing.T) {
	testutil.Leaks(t)
	broker, backend, _ := sharedPage(t)
	var all []*Claim
	seen := make(map[uint32]bool)
	for range Words {
		mine, theirs := offered(t, broker, backend)
		seen[theirs.slot] = true
		all = append(all, mine)
	}
	if len(seen) != Words {
		t.Errorf("%d words hold %d claims", len(seen), Words)
	}
	if c, err := broker.New(); c != nil || !errors.Is(err, ErrPageFull) {
		t.Errorf("one too many: %v, %v", c, err)
	}
	all[7].Close()
	mine, theirs := offered(t, broker, backend)
	if theirs.slot != all[7].slot {
		t.Errorf("got word %d, free was %d", theirs.slot, all[7].slot)
	}
	all[7] = mine
	for _, c := range all {
		c.Close()
	}
}

// TestPageOutlivesItsEnd: a claim that is open keeps the broker's mapping.
func TestPageOutlivesItsEnd(t *testing.T) {
	testutil.Leaks(t)
	before := mappings(t)
	broker, backend, _ := sharedPage(t)
	mine, theirs := offered(t, broker, backend)
	broker.Close()
	if c, err := broker.New(); c != nil || !errors.Is(err, ErrUnavailable) {
		t.Errorf("closed: %v, %v", c, err)
	}
	checkTake(t, theirs, true)
	checkTake(t, mine, false)
	backend.Close()
	backend.Close()
	if now := mappings(t); now != before+1 {
		t.Errorf("%d pages are mapped, not %d", now, before+1)
	}
	mine.Close()
	broker.Close()
	if now := mappings(t); now != before {
		t.Errorf("%d pages are mapped, not %d", now, before)
	}
}

// mappings counts the pages of claims in this process' memory.
func mappings(t *testing.T) (n int) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(maps), "usher-claims")
}

// TestForeignWords: what no side ever writes decides nothing.
func TestForeignWords(t *testing.T) {
	testutil.Leaks(t)
	for name, word := range map[string]func(c *Claim) uint64{
		"a hole":              func(*Claim) uint64 { return 0 },
		"all ones":            func(*Claim) uint64 { return ^uint64(0) },
		"the past":            func(c *Claim) uint64 { return c.word(taken) - states },
		"the past, untaken":   func(c *Claim) uint64 { return c.word(untaken) - states },
		"the future, untaken": func(c *Claim) uint64 { return c.word(untaken) + states },
		"the future, taken":   func(c *Claim) uint64 { return c.word(taken) + states },
	} {
		t.Run(name, func(t *testing.T) {
			broker, backend, _ := sharedPage(t)
			for range 3 {
				mine, _ := offered(t, broker, backend)
				mine.Close()
			}
			mine, theirs := offered(t, broker, backend)
			foreign := word(mine)
			backend.words[theirs.slot].Store(foreign)
			if won, err := mine.Take(); won || !errors.Is(err, ErrCorrupt) {
				t.Errorf("the broker took %v, %v", won, err)
			}
			if mine.Acknowledged() {
				t.Error("acknowledged")
			}
			won, err := theirs.Take()
			if future := foreign/states > theirs.generation; won || future == errors.Is(err, ErrCorrupt) {
				t.Errorf("the backend took %v, %v", won, err)
			}
			mine.Close()
			again, theirs := offered(t, broker, backend) // the word is of use again
			checkTake(t, theirs, true)
			checkTake(t, again, false)
			again.Close()
		})
	}
}

// TestPageCanNotBeTakenAway: memory that one side could shorten would end the other.
func TestPageCanNotBeTakenAway(t *testing.T) {
	testutil.Leaks(t)
	broker, backend, fd := sharedPage(t)
	mine, theirs := offered(t, broker, backend)
	for _, size := range []int64{0, 1, pageSize - 1, pageSize + 1} {
		if err := unix.Ftruncate(fd, size); err != unix.EPERM {
			t.Errorf("truncate to %d: %v", size, err)
		}
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); err != unix.EPERM {
		t.Errorf("another seal: %v", err)
	}
	checkTake(t, theirs, true)
	checkTake(t, mine, false)
	mine.Close()

	mine, theirs = offered(t, broker, backend)
	if err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, pageSize); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Claim{mine, theirs} {
		if won, err := c.Take(); won || !errors.Is(err, ErrCorrupt) {
			t.Errorf("took out of a hole: %v, %v", won, err)
		}
	}
	mine.Close()
}

func TestReceivePageRefuses(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) int{
		"no descriptor": func(*testing.T) int { return -1 },
		"pipe":          func(t *testing.T) int { return pipeHolding(t, []byte{unit}) },
		"directory":     func(t *testing.T) int { return openPath(t, t.TempDir(), unix.O_RDONLY) },
		"unsealed":      func(t *testing.T) int { return memory(t, pageSize, 0) },
		"half sealed":   func(t *testing.T) int { return memory(t, pageSize, unix.F_SEAL_SHRINK) },
		"not for good":  func(t *testing.T) int { return memory(t, pageSize, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW) },
		"short":         func(t *testing.T) int { return memory(t, pageSize-1, seals) },
		"long":          func(t *testing.T) int { return memory(t, pageSize+1, seals) },
		"empty":         func(t *testing.T) int { return memory(t, 0, seals) },
		"sealed for reading": func(t *testing.T) int {
			return memory(t, pageSize, seals|unix.F_SEAL_WRITE)
		},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			fd := open(t)
			if p, err := ReceivePage(sock.Own(fd)); p != nil || !errors.Is(err, ErrForeign) {
				t.Errorf("got %v, %v", p, err)
			}
			if fd >= 0 && testutil.IsOpen(fd) {
				t.Error("it is open still")
			}
		})
	}
}

func memory(t *testing.T, size int64, sealed int) int {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err == nil {
		err = unix.Ftruncate(fd, size)
	}
	if err == nil && sealed != 0 {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, sealed)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestPageRefusesWords(t *testing.T) {
	testutil.Leaks(t)
	_, backend, _ := sharedPage(t)
	for _, c := range []struct {
		word       uint32
		generation uint64
	}{{Words, 1}, {^uint32(0), 1}, {0, 0}, {0, ^uint64(0)}, {0, ^uint64(0)/states + 1}} {
		if got, err := backend.Claim(c.word, c.generation); got != nil || !errors.Is(err, ErrForeign) {
			t.Errorf("word %d, generation %d: %v, %v", c.word, c.generation, got, err)
		}
	}
}

func TestNewPageReportsAFullTable(t *testing.T) {
	testutil.Leaks(t)
	testutil.FillTable(t)
	if p, fd, err := NewPage(); p != nil || fd != nil || !errors.Is(err, ErrUnavailable) || !errors.Is(err, unix.EMFILE) {
		t.Errorf("got %v, %v, %v", p, fd, err)
	}
}

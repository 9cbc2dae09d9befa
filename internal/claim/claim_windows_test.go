package claim

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m, map[string]func() error{"takes": takes}) }

func made(t *testing.T) *Claim {
	t.Helper()
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestEventIsTakenOnce(t *testing.T) {
	ours := made(t)
	dup, err := sock.DuplicateOf(ours.Descriptor())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := Receive(dup)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	var wins [2]bool
	var both sync.WaitGroup
	for i, c := range []*Claim{ours, theirs} {
		both.Go(func() {
			var err error
			if wins[i], err = c.Take(); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	if wins[0] == wins[1] {
		t.Errorf("taken by %v", wins)
	}
	if won, err := ours.Take(); won || err != nil {
		t.Errorf("taken again: %v, %v", won, err)
	}
	if Means() != "event" {
		t.Errorf("claims are %q", Means())
	}
}

// TestForeignHandles: what two could take is no claim.
func TestForeignHandles(t *testing.T) {
	stays, err := windows.CreateEvent(nil, 1, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	mutex, err := windows.CreateMutex(nil, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]windows.Handle{"an event that stays set": stays, "a mutex": mutex} {
		if c, err := Receive(sock.Own(int(h))); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
}

const (
	// batch is how many claims both processes of the race take, one after the other, from one
	// start.
	batch = 50
	// raceLimit ends the race, however many rounds are left.
	raceLimit = time.Minute
)

// takes is the other process of the race: it is told the handles that it has got, and says
// which claims it won. The first is that of the start.
func takes() error {
	var start windows.Handle
	if _, err := fmt.Scan(&start); err != nil {
		return err
	}
	claims := make([]*Claim, batch)
	for {
		for i := range claims {
			var h int
			if _, err := fmt.Scan(&h); err == io.EOF && i == 0 {
				return nil
			} else if err != nil {
				return err
			}
			var err error
			if claims[i], err = Receive(sock.Own(h)); err != nil {
				return err
			}
		}
		fmt.Println("ready")
		if _, err := windows.WaitForSingleObject(start, windows.INFINITE); err != nil {
			return err
		}
		won, err := takeAll(claims)
		if err != nil {
			return err
		}
		fmt.Println(won)
	}
}

// takeAll says which of the claims were won: a digit each.
func takeAll(claims []*Claim) (string, error) {
	won := make([]byte, 0, len(claims))
	for _, c := range claims {
		got, err := c.Take()
		if err != nil {
			return "", err
		}
		c.Close()
		won = append(won, map[bool]byte{true: '1', false: '0'}[got])
	}
	return string(won), nil
}

// TestOneProcessTakes: of two that try at the same time, one.
func TestOneProcessTakes(t *testing.T) {
	rounds := testutil.Repeat(t, "USHER_RACE_ROUNDS", 2000, 500)
	child := testutil.Helper(t, "takes")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	to, err := windows.OpenProcess(windows.PROCESS_DUP_HANDLE, false, uint32(child.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = windows.CloseHandle(to) }()
	tell := func(h windows.Handle) {
		var there windows.Handle
		if err := windows.DuplicateHandle(windows.CurrentProcess(), h, to, &there, 0, false, windows.DUPLICATE_SAME_ACCESS); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintln(in, int(there)); err != nil {
			t.Fatal(err)
		}
	}
	start, err := windows.CreateEvent(nil, 0, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = windows.CloseHandle(start) }()
	tell(start)
	answers := bufio.NewReader(out)
	answer := func() string {
		line, err := answers.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(line)
	}
	raced, ours, changes := 0, 0, 0
	for began := time.Now(); raced < rounds && time.Since(began) < raceLimit; raced += batch {
		claims := make([]*Claim, batch)
		for i := range claims {
			claims[i] = made(t)
			tell(windows.Handle(sock.Number(claims[i].Descriptor())))
		}
		if word := answer(); word != "ready" {
			t.Fatal(word)
		}
		if err := windows.SetEvent(start); err != nil {
			t.Fatal(err)
		}
		for head := time.Now().Add(rand.N(time.Millisecond)); time.Now().Before(head); { // that the other one needs to wake
		}
		here, err := takeAll(claims)
		if err != nil {
			t.Fatal(err)
		}
		there := answer()
		for i := range batch {
			if here[i] == there[i] {
				t.Fatalf("here taken %s, there %s", here, there)
			}
			if here[i] == '1' {
				ours++
			}
			if i > 0 && here[i] != here[i-1] {
				changes++
			}
		}
	}
	_ = in.Close()
	t.Logf("of %d claims %d taken here; %d times another was the next to win", raced, ours, changes)
}

package claim

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

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

// rounds of the race. Each is a claim that two processes take at once.
const rounds = 2000

// takes is the other process of the race: it is told the handles that it has got, and says
// which claims it won.
func takes() error {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var h int
		if _, err := fmt.Sscan(in.Text(), &h); err != nil {
			return err
		}
		c, err := Receive(sock.Own(h))
		if err != nil {
			return err
		}
		won, err := c.Take()
		if err != nil {
			return err
		}
		c.Close()
		fmt.Println(won)
	}
	return in.Err()
}

// TestOneProcessTakes: of two that try at the same time, one.
func TestOneProcessTakes(t *testing.T) {
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
	answers := bufio.NewReader(out)
	ours, theirs := 0, 0
	for range rounds {
		c := made(t)
		var there windows.Handle
		from := windows.CurrentProcess()
		err := windows.DuplicateHandle(from, windows.Handle(sock.Number(c.Descriptor())), to, &there, 0, false, windows.DUPLICATE_SAME_ACCESS)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintln(in, int(there)); err != nil {
			t.Fatal(err)
		}
		won, err := c.Take()
		if err != nil {
			t.Fatal(err)
		}
		line, err := answers.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		switch other := strings.TrimSpace(line) == "true"; {
		case won == other:
			t.Fatalf("here taken %v, there %v", won, other)
		case won:
			ours++
		default:
			theirs++
		}
	}
	_ = in.Close()
	t.Logf("%d taken here, %d there", ours, theirs)
}

package endpoint

import (
	"errors"
	"syscall"
	"testing"

	"github.com/seed-7265657e/usher/internal/sock"
)

// succession is a Binding, and that of a successor, with what the first has offered.
func successionOf(t *testing.T) (first, second *Binding, offered *sock.FD) {
	t.Helper()
	first = mustBind(t, freshPipe())
	place, err := first.SharePlace()
	if err != nil {
		t.Fatal(err)
	}
	if second, err = TakePlace(first.Path, place); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = second.Close() })
	if offered, err = first.ShareLock(); err != nil {
		t.Fatal(err)
	}
	return first, second, offered
}

// TestOnePlace: one of the two has it, whoever comes first.
func TestOnePlace(t *testing.T) {
	first, second, offered := successionOf(t)
	if !first.Withdraw() {
		t.Error("nobody has taken it")
	}
	if err := second.ClaimPlace(offered); !errors.Is(err, ErrWithdrawn) {
		t.Errorf("it was taken back: %v", err)
	}
	again, err := first.ShareLock()
	if err != nil {
		t.Fatal(err)
	}
	if err := second.ClaimPlace(again); err != nil {
		t.Error(err)
	}
	if first.Withdraw() {
		t.Error("the successor has it")
	}
	if err := second.ClaimPlace(nil); err == nil {
		t.Error("nothing is offered")
	}
}

// TestNameOfTwo: as long as one of the two has it, nobody else can.
func TestNameOfTwo(t *testing.T) {
	for name, end := range map[string]func(first, second *Binding) (left *Binding){
		"the first ends":  func(first, second *Binding) *Binding { _ = first.Close(); return second },
		"the second ends": func(first, second *Binding) *Binding { _ = second.Close(); return first },
	} {
		t.Run(name, func(t *testing.T) {
			first, second, offered := successionOf(t)
			defer offered.Close()
			left := end(first, second)
			var used *InUseError
			if b, err := Bind(left.Path); !errors.As(err, &used) {
				t.Errorf("bound beside it: %v, %v", b, err)
			}
			left.Own(nil, false)
			served(t, left)
			_ = left.Close()
			_ = mustBind(t, left.Path).Close()
		})
	}
}

// TestNobodyIsLeftBehind: who has come to the first is passed on by it, and who comes then, to
// the second; while there is none to connect to, he is told to try again.
func TestNobodyIsLeftBehind(t *testing.T) {
	first, second, offered := successionOf(t)
	defer offered.Close()
	early, err := DialNow(first.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = early.Close() }()
	if _, err := early.TryWrite([]byte("e")); err != nil {
		t.Fatal(err)
	}
	first.Disown(true)
	rest := first.Rest()
	if len(rest) != 1 {
		t.Fatalf("%d have come", len(rest))
	}
	defer func() { _ = rest[0].Close() }()
	got := make([]byte, 1)
	if _, err := rest[0].TryRead(got); err != nil || got[0] != 'e' {
		t.Errorf("%q, %v", got, err)
	}
	_ = first.Close()
	if c, err := DialNow(first.Path); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("in between: %v, %v", c, err)
	}
	second.Own(nil, false)
	served(t, second)
}

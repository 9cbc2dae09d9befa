package claim

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestEventfdValues: a counter that was written to decides nothing, and a
// blocking one is not accepted.
func TestEventfdValues(t *testing.T) {
	testutil.Leaks(t)
	for value, want := range map[uint]struct {
		won bool
		err error
	}{0: {false, nil}, 1: {true, nil}, 2: {false, ErrCorrupt}, 1 << 20: {false, ErrCorrupt}} {
		fd, err := unix.Eventfd(value, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Receive(sock.Own(fd))
		if err != nil {
			t.Fatal(err)
		}
		if won, err := c.Take(); won != want.won || !errors.Is(err, want.err) {
			t.Errorf("value %d: took %v, %v", value, won, err)
		}
		c.Close()
	}
	fd, err := unix.Eventfd(1, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Receive(sock.Own(fd)); !errors.Is(err, ErrForeign) {
		t.Errorf("blocking: got %v", err)
	}
}

// TestTakeNeverBlocks: the other side shares the descriptor's mode and may have
// made it blocking. A claim that is gone is gone at once all the same.
func TestTakeNeverBlocks(t *testing.T) {
	testutil.Leaks(t)
	for name, open := range map[string]func() (*sock.FD, error){"eventfd": newEventfd, "pipe": newPipe} {
		fd, err := open()
		if err != nil {
			t.Fatal(err)
		}
		c := &Claim{fd: fd}
		if err := unix.SetNonblock(sock.Number(fd), false); err != nil {
			t.Fatal(err)
		}
		for _, want := range []bool{true, false} {
			if won, err := c.Take(); won != want || err != nil {
				t.Errorf("%s: took %v, %v, want %v", name, won, err, want)
			}
		}
		c.Close()
	}
}

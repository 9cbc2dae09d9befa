//go:build linux && !usher_portable

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

//go:build unix

package sock

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestFullTableAheadOfTheBytes: where a full descriptor table is an error of the receive, the
// bytes come behind it, and are known to have come without what was beside them.
func TestFullTableAheadOfTheBytes(t *testing.T) {
	testutil.Leaks(t)
	for _, full := range []error{unix.EMSGSIZE, unix.EMFILE} {
		a, b := fdPair(t, unix.SOCK_STREAM)
		var in receiver
		buf := make([]byte, 8)
		if in.passes(unix.EBADF) || !in.passes(unix.ECONNRESET) || !in.passes(full) {
			t.Fatalf("%v does not pass, or too much does", full)
		}
		if _, err := in.recv(b, buf); err != unix.EAGAIN {
			t.Fatalf("nothing there: %v", err)
		}
		for i, want := range []error{ErrDescriptorsLost, nil} {
			sendRaw(t, a, []byte("message"))
			m, err := in.recv(b, buf)
			if err != nil || m.N != len("message") || !errors.Is(m.Fault, want) || want == nil && m.Fault != nil {
				t.Errorf("%v, receive %d: %d bytes, fault %v, %v", full, i, m.N, m.Fault, err)
			}
		}
	}
}

// TestGrowAsksForLess: a system that refuses what is beyond its bound is asked for less, and
// never for less than there is.
func TestGrowAsksForLess(t *testing.T) {
	for _, c := range []struct {
		have, most int
		want       []int
	}{
		{8 << 10, 1 << 30, []int{room}},
		{8 << 10, 233016, []int{room, room / 2}}, // NetBSD
		{100 << 10, 64 << 10, []int{room, room / 2}},
		{room, 0, nil},
	} {
		var asked []int
		grow(c.have, func(size int) error {
			asked = append(asked, size)
			if size > c.most {
				return unix.ENOBUFS
			}
			return nil
		})
		if !slices.Equal(asked, c.want) {
			t.Errorf("%d of at most %d: asked for %v, want %v", c.have, c.most, asked, c.want)
		}
	}
}

// TestRoomForAlignment: the control message of two descriptors fits its buffer with every
// alignment that there is: 4 bytes on macOS, 16 on NetBSD for arm64, 8 elsewhere.
func TestRoomForAlignment(t *testing.T) {
	for _, to := range []int{4, 8, 16} {
		align := func(n int) int { return (n + to - 1) &^ (to - 1) }
		if need := align(unix.SizeofCmsghdr) + align(4*usualFDs); need > fewSpace {
			t.Errorf("aligned to %d bytes: %d bytes, and there are %d", to, need, fewSpace)
		}
	}
}

//go:build unix

package endpoint

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestEndsUnsaid: where who has hung up has no name, a client that has said something before
// is none that only asked, and is still served; and asking takes nothing away.
func TestEndsUnsaid(t *testing.T) {
	for _, c := range []struct {
		name       string
		says, ends bool
	}{{"there", false, false}, {"there, and says something", true, false}, {"gone", false, true}, {"gone, behind what it said", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			a, b := testutil.SocketPair(t)
			if c.says {
				if _, err := a.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
			}
			if c.ends {
				if err := a.Close(); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if got, want := endsUnsaid(testutil.FD(t, b)), c.ends && !c.says; got != want {
					t.Errorf("%v, want %v", got, want)
				}
			}
			if c.says && testutil.Unread(t, b) != 1 {
				t.Error("what was said is gone")
			}
		})
	}
	alone, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(alone) }()
	if endsUnsaid(alone) {
		t.Error("a socket without a peer has no end")
	}
}

//go:build unix

package sock

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestHungUp: a peer that has ended one direction is there still; one that has closed is not,
// whatever it left to be read.
func TestHungUp(t *testing.T) {
	testutil.Leaks(t)
	for _, c := range []struct {
		name string
		do   func(peer int) error
		want bool
	}{
		{"open", func(int) error { return nil }, false},
		{"has said something", func(peer int) error { _, err := unix.Write(peer, []byte{1}); return err }, false},
		{"has ended writing", func(peer int) error { return unix.Shutdown(peer, unix.SHUT_WR) }, false},
		{"has closed", unix.Close, true},
	} {
		fds := testutil.FDPair(t, unix.SOCK_STREAM)
		defer closeFD(fds[0])
		if err := c.do(fds[1]); err != nil {
			t.Fatal(err)
		}
		if got := hungUp(fds[0]); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
		if !c.want {
			closeFD(fds[1])
		}
	}
	alone, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(alone)
	if !hungUp(alone) {
		t.Error("who has no peer has not hung up")
	}
}

// TestAwaitHangup waits through the half end, for the whole one.
func TestAwaitHangup(t *testing.T) {
	testutil.Leaks(t)
	near, far, err := StreamPair()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = near.Close() }()
	peer := far.Fd()
	if err := unix.Shutdown(int(peer), unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		AwaitHangup(near)
	}()
	testutil.WaitFor(t, "a reader in the poller", func() bool { return near.parked.Load() != nil })
	select {
	case <-ended:
		t.Error("half an end is taken for a whole one")
	default:
	}
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	<-ended
}

// TestChannelDoesNotBlock: not even one whose end was inherited, in the mode that programs
// expect of what they inherit.
func TestChannelDoesNotBlock(t *testing.T) {
	testutil.Leaks(t)
	fds := testutil.FDPair(t, channelType)
	defer closeFD(fds[1])
	if err := unix.SetNonblock(fds[0], false); err != nil {
		t.Fatal(err)
	}
	ch := NewChannel(Own(fds[0]))
	defer func() { _ = ch.Close() }()
	if flags, err := unix.FcntlInt(uintptr(fds[0]), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
}

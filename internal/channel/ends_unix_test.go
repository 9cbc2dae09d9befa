//go:build unix

package channel

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

var kindNames = map[Kind]string{Seqpacket: "seqpacket", Stream: "stream"}

// bothKinds runs the test on either kind of channel, on any system.
func bothKinds(t *testing.T, test func(t *testing.T, kind Kind)) {
	for kind, name := range kindNames {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			test(t, kind)
		})
	}
}

// without is a system that answers err to a request for SOCK_SEQPACKET.
func without(err error) func(sotype int) ([2]int, error) {
	return func(sotype int) ([2]int, error) {
		if sotype == unix.SOCK_SEQPACKET {
			return [2]int{-1, -1}, err
		}
		return socketpair(sotype)
	}
}

// ends makes a channel and closes both ends at the test's end.
func ends(tb testing.TB, kind Kind) (near, far *Conn) {
	tb.Helper()
	near, fd := rawEnd(tb, kind)
	far = New(fd, kind)
	tb.Cleanup(func() { _ = far.Close() })
	return near, far
}

// rawEnd makes a channel whose far end is a descriptor that the caller closes.
func rawEnd(tb testing.TB, kind Kind) (near *Conn, far int) {
	tb.Helper()
	make := socketpair
	if kind == Stream {
		make = without(unix.EPROTONOSUPPORT)
	}
	near, far, err := pair(make)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = near.Close() })
	if near.Kind() != kind {
		tb.Skipf("this system has no %s channel", kindNames[kind])
	}
	return near, far
}

// message is a framed message that tells id apart.
func message(tb testing.TB, id uint64, payload int) []byte {
	tb.Helper()
	msg, err := frame.Append(nil, frame.Request(frame.Channel, id, make([]byte, payload)))
	if err != nil {
		tb.Fatal(err)
	}
	return msg
}

// openFile is a descriptor to send.
func openFile(tb testing.TB) int {
	tb.Helper()
	f, err := os.Open(os.DevNull)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Close() })
	return testutil.FD(tb, f)
}

func send(t *testing.T, c *Conn, msg []byte, fds ...int) {
	t.Helper()
	if err := c.Send(msg, fds...); err != nil {
		t.Fatal(err)
	}
}

// receive takes the next message, which must be whole, and closes what came
// with it.
func receive(t *testing.T, c *Conn) (f *wire.Frame, descriptors int) {
	t.Helper()
	msg, err := c.Recv()
	if err != nil {
		t.Fatal(err)
	}
	defer msg.FDs.Close()
	f, err = msg.Frame()
	if err = errors.Join(err, msg.Fault); err != nil {
		t.Fatal(err)
	}
	return f, msg.FDs.Len()
}

// wantEnd receives nothing but an error, and no descriptor stays open.
func wantEnd(t *testing.T, c *Conn, want error) {
	t.Helper()
	before := testutil.OpenDescriptors(t)
	msg, err := c.Recv()
	if !errors.Is(err, want) {
		t.Errorf("received %d bytes, %v; want %v", len(msg.Body), err, want)
	}
	if after := testutil.OpenDescriptors(t); after > before {
		t.Errorf("%d descriptors stayed open", after-before)
	}
}

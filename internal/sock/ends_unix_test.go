//go:build unix

package sock

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// ends makes a channel and closes both ends at the test's end.
func ends(tb testing.TB) (near, far *Channel) {
	tb.Helper()
	near, fd := rawEnd(tb)
	far = NewChannel(Own(fd))
	tb.Cleanup(func() { _ = far.Close() })
	return near, far
}

// rawEnd makes a channel of this system's kind, whose far end is a descriptor that the
// caller closes.
func rawEnd(tb testing.TB) (near *Channel, far int) {
	tb.Helper()
	return rawEndOf(tb, channelType)
}

// rawEndOf makes a channel over a socket of a type.
func rawEndOf(tb testing.TB, sotype int) (near *Channel, far int) {
	tb.Helper()
	near, end, err := pairOf(sotype)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		tb.Skip(err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = near.Close() })
	return near, end.take()
}

// reader is a Conn, or the reader of a stream.
type reader interface{ Recv() (Message, error) }

// framed has ReceiveFramed called on a stream.
type framed struct{ sock *Conn }

func (f framed) Recv() (Message, error) { return ReceiveFramed(f.sock) }

// stream makes a stream whose far end is a descriptor that the caller closes.
func stream(tb testing.TB) (near framed, far int) {
	tb.Helper()
	fds := testutil.FDPair(tb, unix.SOCK_STREAM)
	near = framed{newConn(fds[0])}
	tb.Cleanup(func() { _ = near.sock.Close() })
	return near, fds[1]
}

// testMessage is a framed message that tells id apart.
func testMessage(tb testing.TB, id uint64, payload int) []byte {
	tb.Helper()
	msg, err := frame.Append(nil, frame.Request(frame.Channel, id, make([]byte, payload)))
	if err != nil {
		tb.Fatal(err)
	}
	return msg
}

// lend lends what stays its owner's.
func lend(fds []int) (with []Lender) {
	for _, fd := range fds {
		with = append(with, &FD{n: fd})
	}
	return with
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

func sendOn(t *testing.T, c *Channel, msg []byte, fds ...int) {
	t.Helper()
	if err := c.Send(msg, lend(fds)...); err != nil {
		t.Fatal(err)
	}
}

// receiveWhole takes the next message, which must be whole, and closes what came
// with it.
func receiveWhole(t *testing.T, c reader) (f *wire.Frame, descriptors int) {
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
func wantEnd(t *testing.T, c reader, want error) {
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

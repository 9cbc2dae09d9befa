//go:build unix

package sock

import (
	"errors"
	"io"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// streamEnds makes a channel over a stream, and closes both ends at the test's end.
func streamEnds(t *testing.T) (near, far *Channel) {
	t.Helper()
	near, fd := rawEndOf(t, unix.SOCK_STREAM)
	far = NewChannel(Own(fd))
	t.Cleanup(func() { _ = far.Close() })
	return near, far
}

// TestStreamSplitAnywhere: however the bytes of a message are cut, it comes out whole, with
// the descriptors that came with its first byte, and what is there of it waits till then.
func TestStreamSplitAnywhere(t *testing.T) {
	testutil.Leaks(t)
	near, far := rawEndOf(t, unix.SOCK_STREAM)
	defer func() { _ = unix.Close(far) }()
	fd, msg := openFile(t), testMessage(t, 7, 20)
	for at := 1; at < len(msg); at++ {
		sendRaw(t, far, msg[:at], fd, fd)
		if m, err := near.TryRecv(); err != syscall.EAGAIN {
			t.Fatalf("cut at %d: got %d bytes, %v", at, len(m.Body), err)
		}
		if near.Whole() {
			t.Errorf("cut at %d: nobody else could go on", at)
		}
		sendRaw(t, far, msg[at:])
		if f, n := receiveWhole(t, near); f.RequestId != 7 || n != 2 {
			t.Errorf("cut at %d: got %d with %d descriptors", at, f.RequestId, n)
		}
	}
}

// TestStreamKeepsMessagesApart: of messages that are there at once, each has what came with
// it.
func TestStreamKeepsMessagesApart(t *testing.T) {
	testutil.Leaks(t)
	near, far := streamEnds(t)
	fd := openFile(t)
	for id := range uint64(6) {
		sendOn(t, far, testMessage(t, id, 0), []int{fd, fd}[:id%3]...)
	}
	for id := range uint64(6) {
		if f, n := receiveWhole(t, near); f.RequestId != id || n != int(id%3) {
			t.Errorf("message %d came as %d with %d descriptors", id, f.RequestId, n)
		}
	}
}

// TestStreamDescriptorsInside: descriptors that come with any byte but the first
// belong to no message; all are closed, those of the message too.
func TestStreamDescriptorsInside(t *testing.T) {
	testutil.Leaks(t)
	fd, msg := openFile(t), testMessage(t, 7, 20)
	for at := 1; at < len(msg); at++ {
		near, far := rawEndOf(t, unix.SOCK_STREAM)
		sendRaw(t, far, msg[:at], fd)
		sendRaw(t, far, msg[at:], fd, fd)
		wantEnd(t, near, ErrProtocol)
		_ = near.Close()
		_ = unix.Close(far)
	}
}

// TestStreamEndsInside: a message that is not whole is told from the end.
func TestStreamEndsInside(t *testing.T) {
	testutil.Leaks(t)
	fd, msg := openFile(t), testMessage(t, 7, 20)
	for at := 1; at < len(msg); at++ {
		near, far := rawEndOf(t, unix.SOCK_STREAM)
		sendRaw(t, far, msg[:at], fd)
		_ = unix.Close(far)
		wantEnd(t, near, io.ErrUnexpectedEOF)
		_ = near.Close()
	}
}

// TestStreamClosedInside: what came with a message that will not be complete goes with the
// channel; what came with one that is, is its receiver's.
func TestStreamClosedInside(t *testing.T) {
	testutil.Leaks(t)
	fd, msg := openFile(t), testMessage(t, 7, 20)
	near, far := rawEndOf(t, unix.SOCK_STREAM)
	defer func() { _ = unix.Close(far) }()
	sendRaw(t, far, msg, fd)
	m, err := near.TryRecv()
	if err != nil {
		t.Fatal(err)
	}
	kept := m.FDs.Take(0)
	before := testutil.OpenDescriptors(t)
	sendRaw(t, far, msg[:9], fd, fd)
	if _, err := near.TryRecv(); err != syscall.EAGAIN {
		t.Fatal(err)
	}
	_ = near.Close()
	if after := testutil.OpenDescriptors(t); after != before-1 { // its own
		t.Errorf("%d descriptors were open before, %d after", before, after)
	}
	if n, ok := Borrow(kept); !ok || !testutil.IsOpen(n) {
		t.Error("what was taken is closed")
	}
	kept.Close()
}

// tearing fills a channel with a small buffer until a message has gone in part, and returns
// how many messages were taken, that one included.
func tearing(t *testing.T, near *Channel, msg func(id uint64) []byte, fd int) (sent uint64) {
	t.Helper()
	if err := unix.SetsockoptInt(near.sock.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1); err != nil {
		t.Fatal(err)
	}
	var err error
	for ; err == nil; sent++ {
		err = near.Send(msg(sent), lend([]int{fd})...)
	}
	sent-- // the last one did not go
	near.stream.sending.Lock()
	torn := len(near.stream.rest) > 0
	near.stream.sending.Unlock()
	if err != syscall.EAGAIN || !torn {
		t.Fatalf("%d messages, torn %v, %v", sent, torn, err)
	}
	return sent
}

// TestStreamTorn: of a message that went in part the rest follows, and nothing gets in
// between.
func TestStreamTorn(t *testing.T) {
	testutil.Leaks(t)
	near, far := streamEnds(t)
	fd := openFile(t)
	msg := func(id uint64) []byte { return testMessage(t, id, MaxMessage/2) }
	sent := tearing(t, near, msg, fd)
	for id := range sent {
		if f, n := receiveWhole(t, far); f.RequestId != id || len(f.Payload) != MaxMessage/2 || n != 1 {
			t.Fatalf("message %d came as %d with %d bytes and %d descriptors", id, f.RequestId, len(f.Payload), n)
		}
	}
	sendOn(t, near, msg(sent), fd)
	if f, n := receiveWhole(t, far); f.RequestId != sent || n != 1 {
		t.Errorf("then came %d with %d descriptors", f.RequestId, n)
	}
}

// TestStreamRestFirst: what is left of a message goes ahead of the next, also where there is
// room before anybody has sent it.
func TestStreamRestFirst(t *testing.T) {
	testutil.Leaks(t)
	near, far := streamEnds(t)
	msg := testMessage(t, 1, 20)
	near.stream.rest = msg
	if near.Whole() {
		t.Error("nobody else could send the rest")
	}
	sendOn(t, near, testMessage(t, 2, 0), openFile(t))
	for id := range uint64(2) {
		if f, n := receiveWhole(t, far); f.RequestId != id+1 || n != int(id) {
			t.Errorf("got %d with %d descriptors", f.RequestId, n)
		}
	}
}

// TestStreamTornEnds: who sends the rest ends with the channel, and with its peer.
func TestStreamTornEnds(t *testing.T) {
	for name, end := range map[string]func(near, far *Channel) error{
		"closed":    func(near, far *Channel) error { return near.Close() },
		"peer gone": func(near, far *Channel) error { return far.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			before := runtime.NumGoroutine()
			near, far := streamEnds(t)
			tearing(t, near, func(id uint64) []byte { return testMessage(t, id, MaxMessage/2) }, openFile(t))
			if err := end(near, far); err != nil {
				t.Fatal(err)
			}
			testutil.WaitFor(t, "nobody sends", func() bool { return runtime.NumGoroutine() <= before })
			if name == "peer gone" {
				return
			}
			var last error
			for last == nil {
				var m Message
				m, last = far.Recv()
				m.FDs.Close()
			}
			if !errors.Is(last, io.ErrUnexpectedEOF) {
				t.Errorf("the reader got %v", last)
			}
		})
	}
}

// TestKinds: a channel is what its socket is, whatever this system makes.
func TestKinds(t *testing.T) {
	testutil.Leaks(t)
	for sotype, onStream := range map[int]bool{unix.SOCK_STREAM: true, unix.SOCK_SEQPACKET: false} {
		near, far := rawEndOf(t, sotype)
		if (near.stream != nil) != onStream {
			t.Errorf("type %d: on a stream: %v", sotype, near.stream != nil)
		}
		_ = unix.Close(far)
	}
}

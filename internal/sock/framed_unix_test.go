//go:build unix

package sock

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// drained waits until the reader at the other end has taken everything.
func drained(t *testing.T, near framed) {
	t.Helper()
	testutil.WaitFor(t, "all is read", func() bool { return testutil.Unread(t, near.sock) == 0 })
}

// TestFramedSplitAnywhere: however the bytes of a message are cut, it comes out
// whole, with the descriptors that came with its first byte.
func TestFramedSplitAnywhere(t *testing.T) {
	testutil.Leaks(t)
	near, far := stream(t)
	defer func() { _ = unix.Close(far) }()
	fd, msg := openFile(t), testMessage(t, 7, 20)
	for at := 1; at < len(msg); at++ {
		received := make(chan struct{})
		go func() {
			defer close(received)
			if f, n := receiveWhole(t, near); f.RequestId != 7 || n != 2 {
				t.Errorf("cut at %d: got %d with %d descriptors", at, f.RequestId, n)
			}
		}()
		sendRaw(t, far, msg[:at], fd, fd)
		drained(t, near)
		sendRaw(t, far, msg[at:])
		<-received
	}
}

// TestFramedDescriptorsInside: descriptors that come with any byte but the first
// belong to no message; all are closed, those of the message too.
func TestFramedDescriptorsInside(t *testing.T) {
	testutil.Leaks(t)
	fd, msg := openFile(t), testMessage(t, 7, 20)
	for at := 1; at < len(msg); at++ {
		near, far := stream(t)
		sendRaw(t, far, msg[:at], fd)
		sendRaw(t, far, msg[at:], fd, fd)
		wantEnd(t, near, ErrProtocol)
		_ = near.sock.Close()
		_ = unix.Close(far)
	}
}

func TestFramedEndsInside(t *testing.T) {
	testutil.Leaks(t)
	fd, msg := openFile(t), testMessage(t, 7, 20)
	for at := range len(msg) {
		near, far := stream(t)
		want := io.ErrUnexpectedEOF
		if at == 0 {
			want = io.EOF
		} else {
			sendRaw(t, far, msg[:at], fd)
		}
		_ = unix.Close(far)
		wantEnd(t, near, want)
		_ = near.sock.Close()
	}
}

// TestFramedLeavesTheRest: what follows the message is left to the next owner of the
// connection.
func TestFramedLeavesTheRest(t *testing.T) {
	testutil.Leaks(t)
	near, far := stream(t)
	defer func() { _ = unix.Close(far) }()
	sendRaw(t, far, append(testMessage(t, 1, 10), "rest"...), openFile(t))
	if f, n := receiveWhole(t, near); f.RequestId != 1 || n != 1 {
		t.Errorf("received %d with %d descriptors", f.RequestId, n)
	}
	rest := make([]byte, 5)
	if n, err := near.sock.Read(rest); err != nil || string(rest[:n]) != "rest" {
		t.Errorf("left: %q, %v", rest[:n], err)
	}
}

func TestFramedDeadlineAndClose(t *testing.T) {
	testutil.Leaks(t)
	near, far := stream(t)
	defer func() { _ = unix.Close(far) }()
	if err := near.sock.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, near, os.ErrDeadlineExceeded)
	_ = near.sock.Close()
	wantEnd(t, near, os.ErrClosed)
}

// TestFramedDescriptorsLost: with the descriptor table full the message comes out
// whole, but for its descriptors, and marked.
func TestFramedDescriptorsLost(t *testing.T) {
	testutil.Leaks(t)
	near, far := stream(t)
	defer func() { _ = unix.Close(far) }()
	fd := openFile(t)
	sendRaw(t, far, testMessage(t, 1, 0), fd, fd)
	release := testutil.FillTable(t)
	m, err := near.Recv()
	release()
	if err != nil || m.FDs.Len() != 0 || !errors.Is(m.Fault, ErrDescriptorsLost) {
		t.Errorf("%d descriptors, %v, %v", m.FDs.Len(), m.Fault, err)
	}
}

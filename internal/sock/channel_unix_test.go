//go:build unix

package sock

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/testutil"
)

func TestMessagesKeepTheirDescriptors(t *testing.T) {
	testutil.Leaks(t)
	near, far := ends(t)
	fd := openFile(t)
	for id := range uint64(5) {
		sendOn(t, near, testMessage(t, id, int(id)*100), []int{fd, fd, fd, fd}[:id]...)
	}
	for id := range uint64(5) {
		f, n := receiveWhole(t, far)
		if f.RequestId != id || len(f.Payload) != int(id)*100 || n != int(id) {
			t.Errorf("message %d came as %d with %d bytes and %d descriptors", id, f.RequestId, len(f.Payload), n)
		}
	}
	sendOn(t, far, testMessage(t, 9, 0))
	if f, n := receiveWhole(t, near); f.RequestId != 9 || n != 0 {
		t.Errorf("the answer came as %d with %d descriptors", f.RequestId, n)
	}
}

func TestPairFlags(t *testing.T) {
	testutil.Leaks(t)
	near, far, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = near.Close() }()
	defer far.Close()
	for _, fd := range []int{far.number(), near.number()} {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("not close-on-exec: %#x, %v", flags, err)
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
			t.Errorf("blocking: %#x, %v", flags, err)
		}
	}
}

// TestManyQueued: what nobody reads yet is bounded by the socket's buffer, not by
// net.unix.max_dgram_qlen.
func TestManyQueued(t *testing.T) {
	testutil.Leaks(t)
	const queued = 200
	near, far := ends(t)
	fd := openFile(t)
	for id := range uint64(queued) {
		sendOn(t, near, testMessage(t, id, 100), fd, fd)
	}
	for id := range uint64(queued) {
		if f, n := receiveWhole(t, far); f.RequestId != id || n != 2 {
			t.Fatalf("message %d came as %d with %d descriptors", id, f.RequestId, n)
		}
	}
}

// TestFullChannel: nobody reads, Send says so at once and sends nothing; when
// somebody reads, there is room again.
func TestFullChannel(t *testing.T) {
	testutil.Leaks(t)
	near, far := ends(t)
	fd := openFile(t)
	var sent uint64
	var err error
	for ; err == nil; sent++ {
		err = near.Send(testMessage(t, sent, 0), lend([]int{fd})...)
	}
	sent-- // the last one did not go
	if err != syscall.EAGAIN {
		t.Fatalf("after %d messages: %v", sent, err)
	}
	for id := range sent {
		if f, n := receiveWhole(t, far); f.RequestId != id || n != 1 {
			t.Fatalf("message %d came as %d with %d descriptors", id, f.RequestId, n)
		}
	}
	sendOn(t, near, testMessage(t, sent, 0))
	if f, n := receiveWhole(t, far); f.RequestId != sent || n != 0 {
		t.Errorf("then came %d with %d descriptors", f.RequestId, n)
	}
}

func TestMaxMessage(t *testing.T) {
	testutil.Leaks(t)
	near, far := ends(t)
	overhead := len(testMessage(t, 1, MaxMessage/2)) - MaxMessage/2
	if err := near.Send(testMessage(t, 1, MaxMessage-overhead+1)); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("one byte too many: %v", err)
	}
	largest := testMessage(t, 2, MaxMessage-overhead)
	if len(largest) != MaxMessage {
		t.Fatalf("the message is %d bytes long", len(largest))
	}
	sendOn(t, near, largest)
	if f, _ := receiveWhole(t, far); f.RequestId != 2 || len(f.Payload) != MaxMessage-overhead {
		t.Errorf("came as %d with %d bytes", f.RequestId, len(f.Payload))
	}
}

func TestPeerGone(t *testing.T) {
	testutil.Leaks(t)
	near, far := ends(t)
	sendOn(t, far, testMessage(t, 1, 0), openFile(t))
	_ = far.Close()
	if f, n := receiveWhole(t, near); f.RequestId != 1 || n != 1 {
		t.Errorf("the last message came as %d with %d descriptors", f.RequestId, n)
	}
	wantEnd(t, near, io.EOF)
	wantEnd(t, near, io.EOF)
	if err := near.Send(testMessage(t, 2, 0), lend([]int{openFile(t)})...); err != syscall.EPIPE {
		t.Errorf("sent to nobody: %v", err)
	}
}

// TestPeerGoneWithMessagesUnread: what it had sent itself still arrives. An ACK
// must not get lost because its backend died with the next offer in its queue.
func TestPeerGoneWithMessagesUnread(t *testing.T) {
	testutil.Leaks(t)
	near, far := ends(t)
	sendOn(t, near, testMessage(t, 1, 0), openFile(t))
	sendOn(t, far, testMessage(t, 2, 0))
	_ = far.Close()
	if f, _ := receiveWhole(t, near); f.RequestId != 2 {
		t.Errorf("received %d", f.RequestId)
	}
	wantEnd(t, near, io.EOF)
}

func TestDeadline(t *testing.T) {
	testutil.Leaks(t)
	near, far := ends(t)
	if err := near.SetDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, near, os.ErrDeadlineExceeded)
	if err := near.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { _, err := near.Recv(); ended <- err }()
	if err := near.SetDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("under way: %v", err)
	}
	// It bounds Recv alone, and the channel is as good as before.
	sendOn(t, near, testMessage(t, 1, 0))
	if f, _ := receiveWhole(t, far); f.RequestId != 1 {
		t.Errorf("received %d", f.RequestId)
	}
	if err := near.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	sendOn(t, far, testMessage(t, 2, 0))
	if f, _ := receiveWhole(t, near); f.RequestId != 2 {
		t.Errorf("received %d", f.RequestId)
	}
}

func TestClose(t *testing.T) {
	testutil.Leaks(t)
	near, far := ends(t)
	sendOn(t, near, testMessage(t, 1, 0), openFile(t))
	ended := make(chan error)
	go func() { _, err := near.Recv(); ended <- err }()
	for range 2 {
		if err := near.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := <-ended; err != os.ErrClosed {
		t.Errorf("Recv under way: %v", err)
	}
	if _, err := near.Recv(); err != os.ErrClosed {
		t.Errorf("Recv: %v", err)
	}
	if err := near.Send(testMessage(t, 2, 0)); err != os.ErrClosed {
		t.Errorf("Send: %v", err)
	}
	if f, n := receiveWhole(t, far); f.RequestId != 1 || n != 1 {
		t.Errorf("what was sent came as %d with %d descriptors", f.RequestId, n)
	}
	wantEnd(t, far, io.EOF)
}

func TestNewOfNoSocket(t *testing.T) {
	testutil.Leaks(t)
	copied, err := unix.FcntlInt(uintptr(openFile(t)), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := NewChannel(Own(copied)) // it shows when it is used
	if _, err := c.Recv(); !errors.Is(err, unix.ENOTSOCK) {
		t.Errorf("received from a file: %v", err)
	}
	_ = c.Close()
}

// TestConcurrentSends: messages of many senders never mix.
func TestConcurrentSends(t *testing.T) {
	testutil.Leaks(t)
	const senders, each = 4, 100
	near, far := ends(t)
	fd := openFile(t)
	var group sync.WaitGroup
	for s := range uint64(senders) {
		group.Go(func() {
			for i := range uint64(each) {
				msg := testMessage(t, s*each+i, 50)
				for err := near.Send(msg, lend([]int{fd})...); err != nil; err = near.Send(msg, lend([]int{fd})...) {
					if err != syscall.EAGAIN {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	seen := make(map[uint64]bool)
	for range senders * each {
		f, n := receiveWhole(t, far)
		if n != 1 || seen[f.RequestId] {
			t.Fatalf("%d came with %d descriptors, before: %v", f.RequestId, n, seen[f.RequestId])
		}
		seen[f.RequestId] = true
	}
	group.Wait()
}

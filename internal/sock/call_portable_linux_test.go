//go:build usher_portable

package sock

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestRefusedByAHeldSocket: who is refused by a socket that a process has is told to come
// again, as a full backlog refuses on macOS and the BSDs; a dead one stays dead. On Linux a
// socket that does not listen refuses so.
func TestRefusedByAHeldSocket(t *testing.T) {
	testutil.Leaks(t)
	path := filepath.Join(t.TempDir(), "s")
	if _, err := Dial(path); !errors.Is(err, unix.ENOENT) {
		t.Errorf("nobody: %v, want ENOENT", err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	held := Own(fd)
	defer held.Close()
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(path); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("held: %v, want EAGAIN", err)
	}
	held.Close()
	if _, err := Dial(path); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("dead: %v, want ECONNREFUSED", err)
	}
}

// TestAbortedConnectionIsPassedOver: a client that has gone before it was accepted is an
// error of accept on these systems, and none of the listener: behind it waits another.
func TestAbortedConnectionIsPassedOver(t *testing.T) {
	testutil.Leaks(t)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fds[1]) }()
	calls := 0
	c, err := accepted(func() (int, error) {
		if calls++; calls <= 2 {
			return -1, unix.ECONNABORTED
		}
		return fds[0], nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if calls != 3 || c.fd != fds[0] {
		t.Errorf("descriptor %d after %d calls", c.fd, calls)
	}
	if _, err := accepted(func() (int, error) { return -1, unix.EAGAIN }); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("empty: %v, want EAGAIN", err)
	}
}

// TestErrorsOfSending: what these systems call otherwise has the name that it has on Linux.
func TestErrorsOfSending(t *testing.T) {
	for _, c := range []struct {
		err         error
		descriptors bool
		want        error
	}{
		{nil, true, nil},
		{unix.EAGAIN, true, unix.EAGAIN},
		{unix.EMSGSIZE, true, unix.EAGAIN},
		{unix.EMSGSIZE, false, unix.EMSGSIZE},
		{unix.EMFILE, true, unix.ETOOMANYREFS},
		{unix.EMFILE, false, unix.EMFILE},
		{unix.ENOTCONN, true, unix.EPIPE},
		{unix.ENOTCONN, false, unix.EPIPE},
		{unix.ENOBUFS, true, unix.ENOBUFS},
	} {
		if got := sendError(c.err, c.descriptors); got != c.want {
			t.Errorf("%v, descriptors %v: %v, want %v", c.err, c.descriptors, got, c.want)
		}
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(fd)
	if _, err := sendmsg(fd, []byte{1}, nil); err != unix.EPIPE {
		t.Errorf("message to nobody: %v, want EPIPE", err)
	}
	if _, err := sendParts(fd, [][]byte{{1}}); err != unix.EPIPE {
		t.Errorf("bytes to nobody: %v, want EPIPE", err)
	}
}

// TestAwaitReceipt waits for who was sent a descriptor to close, or to say something.
func TestAwaitReceipt(t *testing.T) {
	testutil.Leaks(t)
	for name, do := range map[string]func(*Conn) error{
		"closes": (*Conn).Close,
		"speaks": func(c *Conn) error { _, err := c.Write([]byte{1}); return err },
	} {
		near, far, err := StreamPair()
		if err != nil {
			t.Fatal(err)
		}
		const most, coarse = 20 * time.Millisecond, time.Millisecond
		began := time.Now()
		AwaitReceipt(far, most)
		if waited := time.Since(began); waited < most-coarse {
			t.Errorf("%s: waited %v for one that is still to do so", name, waited)
		}
		received := make(chan struct{})
		go func() {
			defer close(received)
			AwaitReceipt(far, time.Hour)
		}()
		if err := do(near); err != nil {
			t.Fatal(err)
		}
		<-received
		_, _ = near.Close(), far.Close()
	}
}

// TestTakenConnDoesNotBlock: whoever sends a connection may have left it in blocking mode.
func TestTakenConnDoesNotBlock(t *testing.T) {
	testutil.Leaks(t)
	a, b := fdPair(t, unix.SOCK_STREAM)
	given := testutil.FDPair(t, unix.SOCK_STREAM)
	defer closeAll(given[:])
	if err := unix.SetNonblock(given[0], false); err != nil {
		t.Fatal(err)
	}
	sendRaw(t, a, []byte{1}, given[0])
	m, err := new(receiver).recv(b, make([]byte, 1))
	if err != nil || m.FDs.Len() != 1 {
		t.Fatalf("%d descriptors, %v", m.FDs.Len(), err)
	}
	c := m.FDs.TakeConn(0)
	defer func() { _ = c.Close() }()
	if flags, err := unix.FcntlInt(uintptr(c.fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
}

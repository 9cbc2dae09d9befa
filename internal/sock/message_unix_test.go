//go:build unix

package sock

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// pair makes a socket pair that is closed at the test's end.
func fdPair(t *testing.T, sotype int) (a, b int) {
	t.Helper()
	fds := testutil.FDPair(t, sotype)
	t.Cleanup(func() { closeAll(fds[:]) })
	return fds[0], fds[1]
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// devNull opens n descriptors that are closed at the test's end.
func devNull(t *testing.T, n int) []int {
	t.Helper()
	fds := make([]int, n)
	for i := range fds {
		fd, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		fds[i] = fd
	}
	t.Cleanup(func() { closeAll(fds) })
	return fds
}

func sendFDs(t *testing.T, sock int, data string, fds ...int) {
	t.Helper()
	if n, err := sendRights(sock, []byte(data), fds); n != len(data) || err != nil {
		t.Fatalf("sent %d of %d bytes, %v", n, len(data), err)
	}
}

func recvFDs(t *testing.T, sock int, size int) (Received, string) {
	t.Helper()
	buf := make([]byte, size)
	m, err := new(receiver).recv(sock, buf)
	if err != nil {
		t.Fatal(err)
	}
	return m, string(buf[:m.N])
}

func TestSendBorrowsAndRecvOwns(t *testing.T) {
	for name, sotype := range map[string]int{"stream": unix.SOCK_STREAM, "seqpacket": unix.SOCK_SEQPACKET} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			a, b := fdPair(t, sotype)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Close() }()
			sendFDs(t, a, "hello", testutil.FD(t, w))
			_ = w.Close() // what is in flight stays open
			m, got := recvFDs(t, b, 64)
			defer m.FDs.Close()
			if got != "hello" || m.FDs.Len() != 1 || m.Fault != nil {
				t.Fatalf("received %q, %d descriptors, %v", got, m.FDs.Len(), m.Fault)
			}
			if flags, err := unix.FcntlInt(uintptr(m.FDs.fds[0]), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("not close-on-exec: flags %d, %v", flags, err)
			}
			copied := os.NewFile(uintptr(m.FDs.take(0)), "copy")
			testutil.CheckConnected(t, copied, r)
			m.FDs.Close()
			testutil.CheckConnected(t, copied, r)
			_ = copied.Close()
			if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("a copy is still open: %d, %v", n, err)
			}
		})
	}
}

func TestDescriptorsCloseWhatIsNotTaken(t *testing.T) {
	testutil.Leaks(t)
	kept := devNull(t, 1)[0]
	dup, err := unix.Dup(kept)
	if err != nil {
		t.Fatal(err)
	}
	fds := Descriptors{[]int{kept, dup}}
	if fds.take(0) != kept || fds.fds[1] != dup || fds.Len() != 2 {
		t.Errorf("descriptors are mixed up: %+v", fds)
	}
	fds.Close()
	fds.Close()
	if !testutil.IsOpen(kept) || testutil.IsOpen(dup) {
		t.Errorf("taken open %v, other open %v", testutil.IsOpen(kept), testutil.IsOpen(dup))
	}
	var none Descriptors
	none.Close()
	if none.Len() != 0 {
		t.Error("the zero value owns something")
	}
}

// TestRecvSeesEveryDescriptor: a peer may send any number up to what the kernel
// carries. Recv counts them all and gives them to one owner.
func TestRecvSeesEveryDescriptor(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, MaxDescriptors} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			testutil.Leaks(t)
			a, b := fdPair(t, unix.SOCK_SEQPACKET)
			sendFDs(t, a, "x", devNull(t, n)...)
			before := testutil.OpenDescriptors(t)
			m, _ := recvFDs(t, b, 8)
			if m.FDs.Len() != n || m.Fault != nil {
				t.Errorf("%d descriptors, %v", m.FDs.Len(), m.Fault)
			}
			m.FDs.Close()
			if after := testutil.OpenDescriptors(t); after != before {
				t.Errorf("%d descriptors were left open", after-before)
			}
		})
	}
}

func TestSendRefusesMoreThanAMessageCarries(t *testing.T) {
	testutil.Leaks(t)
	a, b := fdPair(t, unix.SOCK_SEQPACKET)
	if n, err := sendRights(a, []byte("x"), devNull(t, MaxDescriptors+1)); n != 0 || err == nil {
		t.Errorf("sent %d, %v", n, err)
	}
	if _, err := new(receiver).recv(b, make([]byte, 8)); err != unix.EAGAIN {
		t.Errorf("something was sent: %v", err)
	}
}

// TestRecvMergedRights: two SCM_RIGHTS in one message arrive as one, an empty one
// as none, and other control messages are none of our business.
func TestRecvMergedRights(t *testing.T) {
	for _, c := range []struct {
		name    string
		control func(fds []int) []byte
		want    int
	}{
		{"two", func(fds []int) []byte { return append(unix.UnixRights(fds[0]), unix.UnixRights(fds[1:]...)...) }, 3},
		{"empty", func([]int) []byte { return unix.UnixRights() }, 0},
		{"empty and one", func(fds []int) []byte { return append(unix.UnixRights(), unix.UnixRights(fds[0])...) }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			testutil.Leaks(t)
			a, b := fdPair(t, unix.SOCK_SEQPACKET)
			if err := unix.Sendmsg(a, []byte("x"), c.control(devNull(t, 3)), nil, 0); err != nil {
				t.Fatal(err)
			}
			m, _ := recvFDs(t, b, 8)
			defer m.FDs.Close()
			if m.FDs.Len() != c.want || m.Fault != nil {
				t.Errorf("%d descriptors, %v", m.FDs.Len(), m.Fault)
			}
		})
	}
}

func TestRecvTruncatedBytes(t *testing.T) {
	testutil.Leaks(t)
	a, b := fdPair(t, unix.SOCK_SEQPACKET)
	sendFDs(t, a, "0123456789", devNull(t, 2)...)
	sendFDs(t, a, "next")
	m, got := recvFDs(t, b, 4)
	defer m.FDs.Close()
	if got != "0123" || m.FDs.Len() != 2 || !errors.Is(m.Fault, ErrTruncated) {
		t.Errorf("received %q, %d descriptors, %v", got, m.FDs.Len(), m.Fault)
	}
	if _, got := recvFDs(t, b, 8); got != "next" {
		t.Errorf("the next message became %q", got)
	}
}

func TestRecvNothingAndEnd(t *testing.T) {
	testutil.Leaks(t)
	fds := testutil.FDPair(t, unix.SOCK_STREAM)
	defer func() { _ = unix.Close(fds[1]) }()
	if _, err := new(receiver).recv(fds[1], make([]byte, 8)); err != unix.EAGAIN {
		t.Errorf("nothing is there: got %v", err)
	}
	_ = unix.Close(fds[0])
	if m, got := recvFDs(t, fds[1], 8); m.N != 0 || got != "" || m.Fault != nil {
		t.Errorf("at the end: %+v", m)
	}
	if _, err := new(receiver).recv(-1, nil); err != unix.EBADF {
		t.Errorf("no socket: got %v", err)
	}
	if _, err := sendRights(fds[1], []byte("x"), []int{-1}); err != unix.EBADF {
		t.Errorf("no descriptor: got %v", err)
	}
	if _, err := sendRights(fds[1], []byte("x"), nil); err != unix.EPIPE {
		t.Errorf("nobody there: got %v", err)
	}
}

// TestSendToFullSocket: a stream takes a part and says how much, then nothing;
// it never blocks. The descriptors travel with the first byte.
func TestSendToFullSocket(t *testing.T) {
	testutil.Leaks(t)
	a, b := fdPair(t, unix.SOCK_STREAM)
	big := bytes.Repeat([]byte{'x'}, 8<<20)
	n, err := sendRights(a, big, devNull(t, 1))
	if n <= 0 || n >= len(big) || err != nil {
		t.Fatalf("sent %d of %d, %v", n, len(big), err)
	}
	for err == nil {
		_, err = sendRights(a, big, nil)
	}
	if err != unix.EAGAIN {
		t.Errorf("full: got %v", err)
	}
	m, _ := recvFDs(t, b, 1)
	defer m.FDs.Close()
	if m.FDs.Len() != 1 {
		t.Errorf("%d descriptors came with the first byte", m.FDs.Len())
	}
}

// TestUnreceivedDescriptors are facts that a broker relies on: what a receiver
// does not take is closed by the kernel, whether it reads without asking for
// descriptors or ends with the message unread.
func TestUnreceivedDescriptors(t *testing.T) {
	for name, drop := range map[string]func(t *testing.T, sock int){
		"plain read": func(t *testing.T, sock int) {
			if n, err := unix.Read(sock, make([]byte, 8)); n != 1 || err != nil {
				t.Errorf("read %d, %v", n, err)
			}
		},
		"close": func(*testing.T, int) {},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			fds := testutil.FDPair(t, unix.SOCK_STREAM)
			defer func() { _ = unix.Close(fds[0]) }()
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Close() }()
			sendFDs(t, fds[0], "x", testutil.FD(t, w))
			_ = w.Close()
			drop(t, fds[1])
			_ = unix.Close(fds[1])
			if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("the descriptor survived: %d, %v", n, err)
			}
		})
	}
}

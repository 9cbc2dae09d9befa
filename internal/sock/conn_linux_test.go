package sock

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"github.com/seed-7265657e/usher/internal/testutil"
)

const patience = 30 * time.Second

// pair is two ends of a connection, closed with the test.
func connPair(t testing.TB) (a, b *Conn) {
	t.Helper()
	fds := testutil.FDPair(t, syscall.SOCK_STREAM)
	a, b = newConn(fds[0]), newConn(fds[1])
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a, b
}

// TestConn holds a Conn against what every net.Conn must do.
func TestConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		a, b := connPair(t)
		return a, b, func() { _ = a.Close(); _ = b.Close() }, nil
	})
}

// TestTry never waits: neither for bytes nor for room.
func TestTry(t *testing.T) {
	testutil.Leaks(t)
	a, b := connPair(t)
	buf := make([]byte, 8)
	if _, err := a.TryRead(buf); !errors.Is(err, syscall.EAGAIN) {
		t.Fatalf("nothing there: %v", err)
	}
	if n, err := b.TryWrite([]byte("ab"), nil, []byte("cd"), []byte("e")); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := a.TryRead(buf); err != nil || string(buf[:n]) != "abcde" {
		t.Fatalf("%q %v", buf[:n], err)
	}
	chunk, total := make([]byte, 64<<10), 0
	for {
		n, err := b.TryWrite(chunk)
		if errors.Is(err, syscall.EAGAIN) {
			break
		}
		if err != nil || n == 0 {
			t.Fatal(n, err)
		}
		total += n
	}
	_ = b.Close()
	if got, err := io.Copy(io.Discard, a); got != int64(total) || err != nil {
		t.Errorf("%d of %d bytes arrived, %v", got, total, err)
	}
	if _, err := a.TryRead(buf); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if _, err := a.TryWrite(chunk); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("to nobody: %v", err)
	}
}

// TestPartsStayTogether: of writers at once, also of more than the kernel takes,
// no one's bytes get between another's.
func TestPartsStayTogether(t *testing.T) {
	testutil.Leaks(t)
	a, b := connPair(t)
	const writers, size = 4, 300_000
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			half := bytes.Repeat([]byte{byte(i)}, size/2)
			if n, err := a.WriteParts(half, half); n != size || err != nil {
				t.Error(n, err)
			}
		})
	}
	got := make([]byte, writers*size)
	if _, err := io.ReadFull(b, got); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	for at := 0; at < len(got); at += size {
		if !bytes.Equal(got[at:at+size], bytes.Repeat(got[at:at+1], size)) {
			t.Fatalf("the %d bytes from %d on are not one writer's", size, at)
		}
	}
}

func TestAwaitRead(t *testing.T) {
	testutil.Leaks(t)
	a, b := connPair(t)
	began := time.Now()
	if a.AwaitRead(20 * time.Millisecond) {
		t.Error("nothing is there")
	}
	if took := time.Since(began); took < 20*time.Millisecond {
		t.Errorf("waited %v", took)
	}
	if a.AwaitRead(0) {
		t.Error("no time, and yet")
	}
	if _, err := b.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if !a.AwaitRead(patience) {
		t.Error("a byte is there")
	}
	_ = b.Close()
	if !a.AwaitRead(patience) {
		t.Error("the end is there too")
	}
	_ = a.Close()
	if a.AwaitRead(patience) {
		t.Error("closed")
	}
}

// TestCloseEndsWaits: whatever waits on a Conn, however it waits, learns that it is
// closed.
func TestCloseEndsWaits(t *testing.T) {
	for name, wait := range map[string]func(c *Conn) error{
		"read":  func(c *Conn) error { _, err := c.Read(make([]byte, 1)); return err },
		"write": func(c *Conn) error { _, err := c.Write(make([]byte, 8<<20)); return err },
		"raw": func(c *Conn) error {
			raw, err := c.SyscallConn()
			if err != nil {
				return err
			}
			return raw.Read(func(uintptr) bool { return false })
		},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			a, _ := connPair(t)
			_ = a.SetDeadline(time.Now().Add(patience))
			ended := make(chan error)
			go func() { ended <- wait(a) }()
			if err := a.Close(); err != nil {
				t.Error(err)
			}
			if err := <-ended; !errors.Is(err, net.ErrClosed) {
				t.Errorf("got %v", err)
			}
			if err := a.Close(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("second Close: %v", err)
			}
			if err := a.SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
				t.Errorf("deadline of a closed one: %v", err)
			}
		})
	}
}

// TestBorrow keeps the descriptor open until its return, and no longer.
func TestBorrow(t *testing.T) {
	testutil.Leaks(t)
	a, b := connPair(t)
	fd, ok := a.borrow()
	if !ok {
		t.Fatal("not lent")
	}
	_ = a.Close()
	if err := syscall.SetNonblock(fd, true); err != nil {
		t.Errorf("closed under its borrower: %v", err)
	}
	if _, ok := a.borrow(); ok {
		t.Error("lent after Close")
	}
	a.giveBack()
	_ = b.SetReadDeadline(time.Now().Add(patience))
	if _, err := b.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the other end reads %v", err)
	}
}

// TestHalves: a direction ends by itself.
func TestHalves(t *testing.T) {
	testutil.Leaks(t)
	a, b := connPair(t)
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read %v", err)
	}
	if _, err := b.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := a.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Error(n, err)
	}
	if err := a.CloseRead(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("wrote to who reads no more: %v", err)
	}
}

// TestDial connects at once or fails at once; Accept takes what is there.
func TestDial(t *testing.T) {
	testutil.Leaks(t)
	path := testutil.SocketDir(t) + "/s"
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if got := c.RemoteAddr().String(); got != path {
		t.Errorf("remote address %q", got)
	}
	from, err := ListenerOf(ln)
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := from.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = accepted.Close() }()
	testutil.CheckConnected(t, c, accepted)
	if _, err := from.Accept(); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("nobody waits: %v", err)
	}
	for name, want := range map[string]error{path + "x": os.ErrNotExist, string(make([]byte, 200)): syscall.EINVAL} {
		if _, err := Dial(name); !errors.Is(err, want) {
			t.Errorf("%d bytes of path: %v, want %v", len(name), err, want)
		}
	}
}

//go:build linux && !usher_portable

package splice_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/splice"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// tried are the two far ends of connections that are joined by Try, and the near one of far.
func tried(t *testing.T) (near, far *net.UnixConn, j *splice.Joint, b *net.UnixConn) {
	t.Helper()
	testutil.Leaks(t)
	near, a := testutil.SocketPair(t)
	far, b = testutil.SocketPair(t)
	for _, c := range []*net.UnixConn{near, far} {
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
	}
	return near, far, splice.New(a, b), b
}

func pass(t *testing.T, to, from *net.UnixConn, message string, between func()) {
	t.Helper()
	if _, err := io.WriteString(from, message); err != nil {
		t.Fatal(err)
	}
	between()
	got := make([]byte, len(message))
	if _, err := io.ReadFull(to, got); string(got) != message || err != nil {
		t.Fatalf("got %q, %v, want %q", got, err, message)
	}
}

// fill writes to c until there is no room, and returns how many bytes that were.
func fill(c *net.UnixConn) (n int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		for err == nil {
			n++
			_, err = unix.Write(int(fd), []byte("f"))
		}
	})
	return n - 1
}

// TestTry moves small messages, and leaves to Join what is too large, or has no room; none of
// it is lost, and its order is kept.
func TestTry(t *testing.T) {
	for name, leave := range map[string]func(near, far, b *net.UnixConn) (arrives string){
		"too large": func(near, _, _ *net.UnixConn) string {
			text := strings.Repeat("large ", 2<<10)
			_, _ = io.WriteString(near, text)
			return text
		},
		"no room": func(near, _, b *net.UnixConn) string {
			n := fill(b)
			_, _ = io.WriteString(near, "behind it")
			return strings.Repeat("f", n) + "behind it"
		},
	} {
		t.Run(name, func(t *testing.T) {
			near, far, j, b := tried(t)
			quiet := func() {
				if !j.Try() {
					t.Fatal("there is more to be done")
				}
			}
			quiet()
			pass(t, far, near, "request", quiet)
			pass(t, near, far, "answer", quiet)
			if a, b := j.Open(); !a || !b {
				t.Error("one has ended")
			}
			want := leave(near, far, b)
			if j.Try() {
				t.Error("it has all been moved")
			}
			done := make(chan error, 1)
			go func() { done <- j.Join(t.Context()) }()
			got := make([]byte, len(want))
			if _, err := io.ReadFull(far, got); string(got) != want || err != nil {
				t.Errorf("%d bytes arrive, %v", len(got), err)
			}
			pass(t, near, far, "goes on", func() {})
			_, _ = near.Close(), far.Close()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestTryEnds: an end is passed on; who has gone ends both.
func TestTryEnds(t *testing.T) {
	near, far, j, _ := tried(t)
	open := func(wantA, wantB bool) {
		t.Helper()
		if !j.Try() {
			t.Error("there is more to be done")
		}
		if a, b := j.Open(); a != wantA || b != wantB {
			t.Errorf("open: %v, %v", a, b)
		}
	}
	_ = near.CloseWrite()
	open(false, true)
	if n, err := far.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("read %d, %v", n, err)
	}
	pass(t, near, far, "answer", func() { open(false, true) })
	_ = far.CloseWrite()
	open(false, false) // whoever has both closes them

	near, _, j, _ = tried(t)
	_ = near.Close()
	open(false, false)
}

//go:build unix

package loop_test

import (
	"syscall"
	"testing"

	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestEvents: what a handler leaves unread is announced again, the end is an event,
// and after Remove there is none.
func TestEvents(t *testing.T) {
	l := running(t, never)
	fds := testutil.FDPair(t, syscall.SOCK_STREAM)
	end := sock.Own(fds[0])
	defer end.Close()
	read := make(chan int, 16)
	on(t, l, func() {
		err := l.Add(end, func() {
			var one [1]byte
			n, _ := syscall.Read(fds[0], one[:])
			if n == 0 {
				l.Remove(end)
			}
			read <- n
		})
		if err != nil {
			t.Error(err)
		}
		if l.Add(end, func() {}) == nil {
			t.Error("watched twice")
		}
	})
	if _, err := syscall.Write(fds[1], []byte("abc")); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if n := wait(t, read); n != 1 {
			t.Errorf("read %d bytes", n)
		}
	}
	_ = syscall.Close(fds[1])
	if n := wait(t, read); n != 0 {
		t.Errorf("read %d bytes at the end", n)
	}
	on(t, l, func() {})
	if len(read) > 0 {
		t.Error("an event after Remove")
	}
	on(t, l, func() { l.Remove(end) }) // again: nothing
	on(t, l, func() {
		if l.Add(sock.Own(-1), func() {}) == nil {
			t.Error("a bad descriptor is watched")
		}
	})
}

// TestAddEnd: of a socket that nobody reads from, the end of one direction is no event, nor is
// what there is to read; the end of both is, also where it has come before.
func TestAddEnd(t *testing.T) {
	l := running(t, never)
	for _, before := range []bool{false, true} {
		fds := testutil.FDPair(t, syscall.SOCK_STREAM)
		end := sock.Own(fds[0])
		defer end.Close()
		ended := make(chan struct{}, 16)
		add := func() {
			if err := l.AddEnd(end, func() { l.Remove(end); ended <- struct{}{} }); err != nil {
				t.Error(err)
			}
		}
		if !before {
			on(t, l, add)
			if _, err := syscall.Write(fds[1], []byte("x")); err != nil {
				t.Fatal(err)
			}
			_ = syscall.Shutdown(fds[1], syscall.SHUT_WR)
			on(t, l, func() {})
			on(t, l, func() {}) // whatever there was has been told
			if len(ended) > 0 {
				t.Error("half an end is told")
			}
		}
		_ = syscall.Close(fds[1])
		if before {
			on(t, l, add)
		}
		wait(t, ended)
	}
}

// TestRemovedMeanwhile: of two descriptors that are ready at once, the one whose
// handler runs first takes the other out, which is then not called.
func TestRemovedMeanwhile(t *testing.T) {
	l := running(t, never)
	a, b := testutil.FDPair(t, syscall.SOCK_STREAM), testutil.FDPair(t, syscall.SOCK_STREAM)
	for _, fd := range []int{a[1], b[1]} {
		defer func() { _ = syscall.Close(fd) }()
	}
	x, y := sock.Own(a[0]), sock.Own(b[0])
	defer x.Close()
	defer y.Close()
	for _, fd := range []int{a[1], b[1]} {
		if _, err := syscall.Write(fd, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	called := 0
	first := func() {
		called++
		l.Remove(x)
		l.Remove(y)
	}
	on(t, l, func() {
		if l.Add(x, first) != nil || l.Add(y, first) != nil {
			t.Error("not watched")
		}
	})
	on(t, l, func() {})
	on(t, l, func() {
		if called != 1 {
			t.Errorf("%d handlers were called", called)
		}
	})
}

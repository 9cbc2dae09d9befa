package loop_test

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/seed-7265657e/usher/internal/loop"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// pipe is a listener, and its name.
func pipe(t *testing.T) (*sock.Listener, string) {
	t.Helper()
	var random [8]byte
	_, _ = rand.Read(random[:])
	path := `\\.\pipe\usher-test-` + hex.EncodeToString(random[:])
	p, err := sock.Listen(path, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p, path
}

// pair is a connection, and its serving end.
func pair(t *testing.T, p *sock.Listener, path string) (dialled, served *sock.Conn) {
	t.Helper()
	dialled, err := sock.Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "the connection is there", func() bool {
		served, err = p.Accept()
		return !errors.Is(err, syscall.EAGAIN)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dialled.Close(); _ = served.Close() })
	return dialled, served
}

func write(t *testing.T, c *sock.Conn, s string) {
	t.Helper()
	if n, err := c.TryWrite([]byte(s)); n != len(s) || err != nil {
		t.Fatalf("wrote %d bytes, %v", n, err)
	}
}

// TestAnnouncesManyPipes: more than one wait of the system is for, each until what it has is
// read, and then its end.
func TestAnnouncesManyPipes(t *testing.T) {
	l := running(t, never)
	p, path := pipe(t)
	const pipes = 200
	type seen struct {
		pipe int
		what string
	}
	news := make(chan seen, pipes)
	var dialled [pipes]*sock.Conn
	for i := range pipes {
		client, served := pair(t, p, path)
		dialled[i] = client
		on(t, l, func() {
			err := l.Add(served, func() {
				var one [1]byte
				n, err := served.TryRead(one[:])
				switch {
				case err == nil:
					news <- seen{i, string(one[:n])}
				case err == io.EOF:
					l.Remove(served)
					news <- seen{i, "end"}
				case err != syscall.EAGAIN: // an event is a hint
					t.Error(err)
				}
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	for i, c := range dialled {
		write(t, c, "ab")
		for _, want := range []string{"a", "b"} { // the second is announced again
			if got := wait(t, news); got != (seen{i, want}) {
				t.Fatalf("got %v, want %q of %d", got, want, i)
			}
		}
	}
	for i, c := range dialled {
		_ = c.Close()
		if got := wait(t, news); got != (seen{i, "end"}) {
			t.Fatalf("got %v, want the end of %d", got, i)
		}
	}
}

// TestRemovedPipeIsFree: no read of the loop is under way any more, so the next reader gets
// the first byte, and the poller of whoever has the pipe by then can bind it.
func TestRemovedPipeIsFree(t *testing.T) {
	l := running(t, never)
	p, path := pipe(t)
	for range 50 {
		dialled, served := pair(t, p, path)
		on(t, l, func() {
			if err := l.Add(served, func() {}); err != nil {
				t.Error(err)
			}
		})
		on(t, l, func() { l.Remove(served) }) // a turn later: the read is under way
		if err := served.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		write(t, dialled, "first")
		got := make([]byte, 5)
		if _, err := io.ReadFull(served, got); err != nil || string(got) != "first" {
			t.Fatalf("read %q, %v", got, err)
		}
	}
}

// TestEndedLoopLeavesPipesFree: a pipe that is still in the set when the loop ends.
func TestEndedLoopLeavesPipesFree(t *testing.T) {
	l, err := loop.New(never, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, path := pipe(t)
	dialled, served := pair(t, p, path)
	if err := l.Add(served, func() {}); err != nil {
		t.Fatal(err)
	}
	ran := make(chan error)
	go func() { ran <- l.Run() }()
	on(t, l, func() {})
	l.Stop()
	if err := wait(t, ran); err != nil {
		t.Fatal(err)
	}
	l.Remove(served)
	l.Close()
	write(t, dialled, "x")
	_ = served.SetReadDeadline(time.Now().Add(patience))
	if n, err := served.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// TestSetEventHidesNoPipe: one that is always set ends each wait.
func TestSetEventHidesNoPipe(t *testing.T) {
	l := running(t, never)
	h, err := windows.CreateEvent(nil, 1, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	set := sock.Own(int(h))
	defer set.Close()
	p, path := pipe(t)
	dialled, served := pair(t, p, path)
	news := make(chan error, 1)
	on(t, l, func() {
		_ = l.Add(set, func() {})
		_ = l.Add(served, func() {
			l.Remove(served)
			_, err := served.TryRead(make([]byte, 1))
			news <- err
		})
	})
	write(t, dialled, "x")
	if err := wait(t, news); err != nil {
		t.Error(err)
	}
	on(t, l, func() { l.Remove(set) })
}

func TestAcceptorTakesConnections(t *testing.T) {
	l := running(t, never)
	p, path := pipe(t)
	accepted := make(chan *sock.Conn, 64)
	var a *loop.Acceptor
	a = loop.NewAcceptor(l, p, func() {
		c, err := a.Accept()
		switch {
		case err == nil:
			a.Accepted()
			accepted <- c
		case !errors.Is(err, syscall.EAGAIN):
			t.Error(err)
		}
	})
	on(t, l, a.Start)
	for range 40 {
		c, err := sock.Dial(path)
		if err != nil {
			t.Fatal(err)
		}
		_ = wait(t, accepted).Close()
		_ = c.Close()
	}
	on(t, l, a.Stop)
}

// TestAnotherLoopTakesPipe: one that was watched, had a deadline, and was given away.
func TestAnotherLoopTakesPipe(t *testing.T) {
	l := running(t, never)
	p, path := pipe(t)
	dialled, served := pair(t, p, path)
	on(t, l, func() {
		if err := l.Add(served, func() {}); err != nil {
			t.Error(err)
		}
	})
	on(t, l, func() { l.Remove(served) }) // a turn later: the read is under way
	if err := served.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	dup, err := sock.DuplicateOf(served)
	if err != nil {
		t.Fatal(err)
	}
	other, news := sock.NewConn(dup), make(chan error, 1)
	defer func() { _ = other.Close() }()
	_ = served.Close()
	next := running(t, never)
	on(t, next, func() {
		err := next.Add(other, func() {
			next.Remove(other)
			_, err := other.TryRead(make([]byte, 1))
			news <- err
		})
		if err != nil {
			t.Error(err)
		}
	})
	write(t, dialled, "x")
	if err := wait(t, news); err != nil {
		t.Error(err)
	}
}

package sock

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// unboundPair is a connection that nothing has bound, and its serving end.
func unboundPair(t *testing.T) (kept, served *Conn) {
	t.Helper()
	kept, served = pair(t)
	kept.KeepUnbound()
	return kept, served
}

// waits begins a call that has to wait, and returns what it says.
func waits(call func([]byte) (int, error), b []byte) <-chan error {
	said := make(chan error, 1)
	go func() {
		_, err := call(b)
		said <- err
	}()
	return said
}

func says(t *testing.T, said <-chan error, want error) {
	t.Helper()
	select {
	case err := <-said:
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	case <-time.After(40 * time.Second):
		t.Error("waits still")
	}
}

// TestUnboundStaysSo: whoever gets a connection that has waited, and has had deadlines, can
// bind it.
func TestUnboundStaysSo(t *testing.T) {
	kept, served := unboundPair(t)
	if err := kept.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := kept.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if err := kept.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	said := waits(func(b []byte) (int, error) { return io.ReadFull(kept, b) }, make([]byte, 2))
	mustWrite(t, served, "a")
	mustWrite(t, served, "b")
	says(t, said, nil)
	if kept.parked.Load() != nil {
		t.Fatal("bound")
	}
	kept.unbound = nil
	f, err := kept.park() // as its next owner does
	if err != nil {
		t.Fatal(err)
	}
	if err := f.SetDeadline(time.Now()); err != nil {
		t.Error(err)
	}
}

// TestUnboundIsWoken: by a deadline that changes, by the other end, and by Close.
func TestUnboundIsWoken(t *testing.T) {
	past := time.Unix(1, 0)
	full := make([]byte, 4*room)
	for name, tc := range map[string]struct {
		wake func(kept, served *Conn) error
		want error
	}{
		"deadline":  {func(kept, _ *Conn) error { return kept.SetDeadline(past) }, os.ErrDeadlineExceeded},
		"closed":    {func(kept, _ *Conn) error { return kept.Close() }, net.ErrClosed},
		"other end": {func(_, served *Conn) error { return served.Close() }, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			kept, served := unboundPair(t)
			said := waits(kept.Read, make([]byte, 1))
			testutil.WaitFor(t, "it waits", func() bool {
				kept.unbound.mu.Lock()
				defer kept.unbound.mu.Unlock()
				return kept.unbound.call != nil
			})
			if err := tc.wake(kept, served); err != nil {
				t.Fatal(err)
			}
			says(t, said, tc.want)
		})
	}
	t.Run("write", func(t *testing.T) {
		kept, served := unboundPair(t)
		said := waits(kept.Write, full)
		if err := kept.SetWriteDeadline(past); err != nil {
			t.Fatal(err)
		}
		says(t, said, os.ErrDeadlineExceeded)
		_ = served
	})
}

// TestUnboundWritesAll: a Write of nothing returns once all has found room.
func TestUnboundWritesAll(t *testing.T) {
	kept, served := unboundPair(t)
	all := make([]byte, 4*room)
	said := waits(kept.Write, all)
	if _, err := io.ReadFull(served, all[:2*room]); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(served, all[2*room:]); err != nil {
		t.Fatal(err)
	}
	says(t, said, nil)
	var n int
	var err error
	testutil.WaitFor(t, "the last write is known to be over", func() bool {
		n, err = kept.TryWrite(all) // and fills the pipe
		return !errors.Is(err, syscall.EAGAIN)
	})
	if n != room || err != nil {
		t.Fatal(n, err)
	}
	if n, err := kept.TryWrite(all[:room]); n != room || err != nil { // goes on by itself
		t.Fatal(n, err)
	}
	said = waits(kept.Write, nil)
	select {
	case <-said:
		t.Error("returned while a write goes on")
	default:
	}
	if _, err := io.ReadFull(served, all[:2*room]); err != nil {
		t.Fatal(err)
	}
	says(t, said, nil)
	if kept.out.flight != nil {
		t.Error("a write goes on")
	}
}

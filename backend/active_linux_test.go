package backend_test

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// behindCapable is a backend whose broker has capabilities.
func behindCapable(t *testing.T, capabilities uint64, change ...func(*backend.Options)) (*backend.Listener, session) {
	t.Helper()
	p := newPlace(t)
	wires := serveRegistrations(t, p, capabilities)
	ln := listen(t, p, change...)
	return ln, next(t, wires)
}

// serveRegistrations is a broker with capabilities that takes every backend in.
func serveRegistrations(t *testing.T, p place, capabilities uint64) <-chan session {
	t.Helper()
	wires := make(chan session, 16)
	answering(t, p, func(c *net.UnixConn, f *wire.Frame) {
		near, far, err := newWire(t)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = unix.Close(far) }()
		reply(t, c, frame.Registered(f, &wire.Registered{Accepted: true, Capabilities: capabilities}), far)
		wires <- near
	})
	return wires
}

// dialled is a connection to the backend's pipe that its application has accepted.
func dialled(t *testing.T, ln *backend.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return accept(t, ln)
}

// active reads the next note, which says how many connections there are.
func (w session) active(t *testing.T) uint64 {
	t.Helper()
	note := w.note(t)
	if note.Kind != wire.NoteKind_NOTE_KIND_ACTIVE {
		t.Fatalf("got %v", note)
	}
	return note.Active
}

// TestActive: the broker is told how many connections there are once for a burst, not of
// one that is over at once, and behind DRAIN of every end.
func TestActive(t *testing.T) {
	testutil.Leaks(t)
	ln, w := behindCapable(t, frame.CapUnknownMessages)
	began := time.Now()
	_ = dialled(t, ln).Close()
	atOnce := time.Since(began) < 50*time.Millisecond // half of what a burst has; a busy machine takes longer
	first, second, third := dialled(t, ln), dialled(t, ln), dialled(t, ln)
	for told := uint64(0); told != 3; { // fewer first, on a machine that takes longer for three
		n := w.active(t)
		if n <= told && atOnce {
			t.Fatalf("told of %d connections, then of %d", told, n)
		}
		told = n
	}
	_ = first.Close()
	if n := w.active(t); n != 2 {
		t.Errorf("told of %d connections", n)
	}
	if err := w.Send(framed(t, frame.ChannelNote(&wire.Note{Kind: wire.NoteKind_NOTE_KIND_DRAIN}))); err != nil {
		t.Fatal(err)
	}
	<-ln.Done()
	if err := ln.Close(); err != nil { // has come to its end
		t.Error(err)
	}
	for left, c := range []net.Conn{second, third} {
		_ = c.Close()
		if n := w.active(t); n != uint64(1-left) {
			t.Errorf("told of %d connections", n)
		}
	}
	if msg, err := w.Recv(); err == nil {
		t.Errorf("got %v behind the last connection", msg)
	}
}

// TestActiveUnasked: a broker that might end the channel for it is told nothing.
func TestActiveUnasked(t *testing.T) {
	testutil.Leaks(t)
	ln, w := behindCapable(t, 0)
	c := dialled(t, ln)
	_ = w.SetDeadline(time.Now().Add(300 * time.Millisecond))
	if msg, err := w.Recv(); err == nil {
		t.Errorf("got %v", msg)
	}
	_ = c.Close()
}

package backend_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// note reads the next note.
func (w session) note(t *testing.T) *wire.Note {
	t.Helper()
	msg, err := w.Recv()
	if err != nil {
		t.Fatal(err)
	}
	f, err := msg.Frame()
	if err != nil {
		t.Fatal(err)
	}
	note := frame.ParseChannelNote(f)
	if note == nil {
		t.Fatalf("got %v", f)
	}
	return note
}

// says reads notes until one is of kind, and fails at one of those that must not come before.
func (w session) says(t *testing.T, kind wire.NoteKind, never ...wire.NoteKind) {
	t.Helper()
	for {
		got := w.note(t).Kind
		if got == kind {
			return
		}
		for _, n := range never {
			if got == n {
				t.Fatalf("said %v before %v", got, kind)
			}
		}
	}
}

const (
	noteBusy = wire.NoteKind_NOTE_KIND_BUSY
	noteIdle = wire.NoteKind_NOTE_KIND_IDLE
)

// busyBehind is a backend whose broker has capabilities, and which is idle soon.
func busyBehind(t *testing.T, capabilities uint64, busy func() bool) (*backend.Listener, session) {
	t.Helper()
	return behindCapable(t, capabilities, func(o *backend.Options) {
		o.IdleTimeout, o.Busy = 10*time.Millisecond, busy
	})
}

// TestBusy: one that is at work says so in the place of IDLE, again and again, and takes
// connections meanwhile. When it is let go it has its work done before Drain returns.
func TestBusy(t *testing.T) {
	testutil.Leaks(t)
	var busy atomic.Bool
	busy.Store(true)
	ln, w := busyBehind(t, frame.CapUnknownMessages, busy.Load)
	w.says(t, noteBusy, noteIdle)
	w.says(t, noteBusy, noteIdle)
	_ = dialled(t, ln).Close()
	w.says(t, noteBusy, noteIdle)
	busy.Store(false)
	w.says(t, noteIdle)
	busy.Store(true) // just then
	if err := w.Send(framed(t, frame.ChannelNote(&wire.Note{Kind: wire.NoteKind_NOTE_KIND_DRAIN}))); err != nil {
		t.Fatal(err)
	}
	<-ln.Done()
	drained := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() { drained <- ln.Drain(ctx) }()
	w.says(t, noteBusy)
	for { // it may have been asked just before it was let go
		msg, err := w.Recv()
		if err != nil {
			break
		}
		f, err := msg.Frame()
		if note := frame.ParseChannelNote(f); err != nil || note == nil || note.Kind != noteBusy {
			t.Fatalf("got %v, %v behind that", f, err)
		}
	}
	impatient, give := context.WithTimeout(t.Context(), time.Millisecond)
	defer give()
	gone := make(chan error, 1)
	go func() { gone <- ln.Drain(impatient) }()
	select {
	case err := <-gone:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drain with its time over: %v", err)
		}
	case <-time.After(patience):
		t.Error("Drain waits beyond its time")
	}
	select {
	case err := <-drained:
		t.Fatalf("Drain returns %v before the work is done", err)
	default:
	}
	busy.Store(false)
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// TestBusyDoesNotAnswer: a backend whose application does not say whether it is at work is,
// and takes connections as ever.
func TestBusyDoesNotAnswer(t *testing.T) {
	testutil.Leaks(t)
	answer := make(chan struct{})
	var asked atomic.Int32
	ln, w := busyBehind(t, frame.CapUnknownMessages, func() bool {
		asked.Add(1)
		<-answer
		return false
	})
	w.says(t, noteBusy, noteIdle)
	w.says(t, noteBusy, noteIdle)
	_ = dialled(t, ln).Close()
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times at once", n)
	}
	close(answer)
	w.says(t, noteIdle)
}

// TestBusyAnswersLate: an answer that comes when there is a connection again is none.
func TestBusyAnswersLate(t *testing.T) {
	testutil.Leaks(t)
	asked, answer := make(chan struct{}, 1), make(chan struct{})
	ln, w := behindCapable(t, frame.CapUnknownMessages, func(o *backend.Options) {
		o.IdleTimeout = time.Second // ten times what ACTIVE takes
		o.Busy = func() bool {
			select {
			case asked <- struct{}{}:
			default:
			}
			<-answer
			return false
		}
	})
	<-asked
	c := dialled(t, ln)
	w.says(t, wire.NoteKind_NOTE_KIND_ACTIVE, noteIdle)
	close(answer)
	_ = c.Close()
	w.says(t, wire.NoteKind_NOTE_KIND_ACTIVE, noteIdle)
	w.says(t, noteIdle)
}

// TestBusyWithoutBroker: a backend that would end by itself stays while it is at work.
func TestBusyWithoutBroker(t *testing.T) {
	testutil.Leaks(t)
	var busy atomic.Bool
	var asked atomic.Int32
	busy.Store(true)
	ln := listen(t, newPlace(t), func(o *backend.Options) {
		o.IdleTimeout = 10 * time.Millisecond
		o.Busy = func() bool { asked.Add(1); return busy.Load() }
	})
	testutil.WaitFor(t, "it is asked again", func() bool { return asked.Load() > 2 })
	_ = dialled(t, ln).Close()
	busy.Store(false)
	select {
	case <-ln.Done():
	case <-time.After(patience):
		t.Error("it does not end when its work is done")
	}
}

// TestBusyUnasked: a broker that might end the channel for it is told nothing.
func TestBusyUnasked(t *testing.T) {
	testutil.Leaks(t)
	var asked atomic.Int32
	_, w := busyBehind(t, 0, func() bool { asked.Add(1); return true })
	testutil.WaitFor(t, "it has been asked twice", func() bool { return asked.Load() > 1 })
	_ = w.SetDeadline(time.Now().Add(50 * time.Millisecond))
	if msg, err := w.Recv(); err == nil {
		t.Errorf("got %v", msg)
	}
}

// TestBusyIsSaidAgain: the next broker is told what the one before knew.
func TestBusyIsSaidAgain(t *testing.T) {
	testutil.Leaks(t)
	var asked atomic.Int32
	p := newPlace(t)
	wires := serveRegistrations(t, p, frame.CapUnknownMessages)
	listen(t, p, func(o *backend.Options) {
		o.IdleTimeout = 2 * time.Second                   // registering again takes far less
		o.Busy = func() bool { return asked.Add(1) == 1 } // and not when the next one comes
	})
	first := next(t, wires)
	first.says(t, noteBusy)
	_ = first.Close()
	next(t, wires).says(t, noteBusy, noteIdle)
}

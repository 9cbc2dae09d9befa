package sock

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// message is a frame with a payload of so many bytes.
func message(t *testing.T, payload int) []byte {
	t.Helper()
	msg, err := frame.Append(nil, frame.ChannelOffer(&wire.Offer{Token: make([]byte, 16), Preamble: make([]byte, payload)}))
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

func event(t *testing.T) *FD {
	t.Helper()
	h, err := windows.CreateEvent(nil, 0, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	fd := Own(int(h))
	t.Cleanup(fd.Close)
	return fd
}

// channel is both ends of a channel whose far one went over a connection, to this process.
func channel(t *testing.T) (near, far *Channel) {
	t.Helper()
	dialled, served := pair(t)
	near, end, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close() })
	if err := near.Send(message(t, 1), event(t)); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("handles for nobody: %v", err)
	}
	msg := message(t, 1)
	if n, err := served.SendNow(msg, end); n != len(msg) || err != nil {
		t.Fatalf("sent %d of %d bytes, %v", n, len(msg), err)
	}
	end.Close()
	got, err := ReceiveFramed(dialled)
	if err != nil {
		t.Fatal(err)
	}
	if got.FDs.Len() != 1 {
		t.Fatalf("%d handles arrived", got.FDs.Len())
	}
	far = NewChannel(got.FDs.Take(0))
	t.Cleanup(func() { _ = far.Close() })
	return near, far
}

// TestHandlesTravel beside a message: the connection and the event are the very same.
func TestHandlesTravel(t *testing.T) {
	near, far := channel(t)
	client, accepted := pair(t)
	for range 3 {
		if err := near.Send(message(t, 100), accepted, event(t)); err != nil {
			t.Fatal(err)
		}
	}
	if err := near.Send(message(t, 7)); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		m, err := far.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if i == 3 {
			if m.FDs.Len() != 0 {
				t.Errorf("%d handles beside the last message", m.FDs.Len())
			}
			break
		}
		if m.FDs.Len() != 2 {
			t.Fatalf("%d handles arrived", m.FDs.Len())
		}
		if err := m.FDs.CheckConnection(0); err != nil {
			t.Error(err)
		}
		if err := m.FDs.CheckConnection(1); !errors.Is(err, ErrKind) {
			t.Errorf("an event is a connection: %v", err)
		}
		if cred, err := m.FDs.PeerOf(0); err != nil || cred.CheckUser(-1) != nil {
			t.Errorf("%+v, %v", cred, err)
		}
		conn := m.FDs.TakeConn(0)
		mustWrite(t, conn, "x")
		mustRead(t, client, "x")
		_ = conn.Close()
		m.FDs.Close()
	}
	if _, err := far.TryRecv(); err != syscall.EAGAIN {
		t.Errorf("of nothing: %v", err)
	}
	_ = near.Close()
	if _, err := far.Recv(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

// TestUnsentHandlesAreTakenBack: what was duplicated for a message that found no room is
// closed in the receiver again.
func TestUnsentHandlesAreTakenBack(t *testing.T) {
	near, _ := channel(t)
	sent := event(t)
	big := message(t, MaxMessage/2)
	fill := func() error {
		for range 1024 {
			if err := near.Send(big); err != nil {
				return err
			}
		}
		return nil
	}
	if err := fill(); !errors.Is(err, syscall.EAGAIN) {
		t.Fatalf("the channel never gets full: %v", err)
	}
	before := testutil.Handles(t, os.Getpid())
	const tries = 1000
	for range tries {
		if err := near.Send(big, sent, sent); !errors.Is(err, syscall.EAGAIN) || errors.Is(err, ErrLeftBehind) {
			t.Fatalf("into a full channel: %v", err)
		}
	}
	if after := testutil.Handles(t, os.Getpid()); after > before+tries/2 { // threads of the runtime have handles too
		t.Errorf("%d handles before, %d after", before, after)
	}
}

// TestGoneReceiverHasNothing: what can't be closed in a process that has none of it is not
// left behind.
func TestGoneReceiverHasNothing(t *testing.T) {
	near, far := channel(t)
	_ = far.Close()
	err := near.Send(message(t, 1), event(t))
	if !errors.Is(err, syscall.EPIPE) || errors.Is(err, ErrLeftBehind) {
		t.Errorf("to nobody: %v", err)
	}
}

// TestBrokenPassing: what is no message ends the channel.
func TestBrokenPassing(t *testing.T) {
	for name, sent := range map[string][]byte{
		"too many handles": {marker, usualFDs + 1},
		"twice":            append(append([]byte{marker, 0}, marker, 0), bytes.Repeat([]byte{0}, 8)...),
		"no frame":         bytes.Repeat([]byte{9}, 16),
	} {
		t.Run(name, func(t *testing.T) {
			dialled, served := pair(t)
			mustWrite(t, served, string(sent))
			_ = served.Close()
			if _, err := ReceiveFramed(dialled); !errors.Is(err, ErrProtocol) {
				t.Error(err)
			}
		})
	}
	dialled, served := pair(t)
	mustWrite(t, dialled, string(message(t, 10)[:9]))
	_ = dialled.Close()
	if _, err := ReceiveFramed(served); err != io.ErrUnexpectedEOF {
		t.Errorf("inside a message: %v", err)
	}
}

// TestServingEndTakesNoHandles: whoever got the far end of a channel, or has dialled, can
// make up numbers, and those of the other process' own handles are easily guessed.
func TestServingEndTakesNoHandles(t *testing.T) {
	own := event(t)
	msg := binary.LittleEndian.AppendUint64([]byte{marker, 1}, uint64(own.n))
	msg = append(msg, message(t, 1)...)
	near, far := channel(t)
	mustWrite(t, far.sock, string(msg))
	dialled, served := pair(t)
	mustWrite(t, dialled, string(msg))
	for name, receive := range map[string]func() (Message, error){
		"channel":    near.TryRecv,
		"connection": func() (Message, error) { return ReceiveFramed(served) },
	} {
		if m, err := receive(); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %d handles, %v", name, m.FDs.Len(), err)
			m.FDs.Close()
		}
	}
	if _, err := windows.WaitForSingleObject(windows.Handle(own.n), 0); err != nil {
		t.Errorf("the handle was closed: %v", err)
	}
}

// TestAnotherGoesOn: a channel that is passed on while nothing is under way on it carries handles
// to the process that it is said to lead to.
func TestAnotherGoesOn(t *testing.T) {
	near, far := channel(t)
	if !near.Whole() {
		t.Error("nothing is under way")
	}
	msg := message(t, 1)
	if _, err := far.sock.TryWrite(msg[:3]); err != nil {
		t.Fatal(err)
	}
	if _, err := near.TryRecv(); !errors.Is(err, syscall.EAGAIN) {
		t.Fatal(err)
	}
	if near.Whole() {
		t.Error("a part of a message is here")
	}
	if _, err := far.sock.TryWrite(msg[3:]); err != nil {
		t.Fatal(err)
	}
	if _, err := near.TryRecv(); err != nil || !near.Whole() {
		t.Errorf("all of it is here: %v", err)
	}
	dup, err := DuplicateOf(near)
	if err != nil {
		t.Fatal(err)
	}
	next := NewChannel(dup)
	defer func() { _ = next.Close() }()
	_ = near.Close()
	if err := next.Send(msg, event(t)); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("handles for nobody: %v", err)
	}
	if err := next.HeldBy(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	if err := next.Send(msg, event(t)); err != nil {
		t.Fatal(err)
	}
	if m, err := far.Recv(); err != nil || m.FDs.Len() != 1 {
		t.Errorf("%d handles, %v", m.FDs.Len(), err)
	} else {
		m.FDs.Close()
	}
	for next.Whole() { // until the pipe is full, and a message is on its way
		if err := next.Send(msg); err != nil {
			t.Fatalf("it has room, and is whole: %v", err)
		}
	}
	_ = far.Close()
}

// TestBoundChannelIsNotPassed: a pipe is bound once.
func TestBoundChannelIsNotPassed(t *testing.T) {
	near, _ := channel(t)
	_ = near.SetDeadline(time.Now().Add(time.Millisecond))
	if _, err := near.Recv(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	if near.Whole() {
		t.Error("nobody else can bind it")
	}
}

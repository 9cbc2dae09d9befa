//go:build unix

package sock

import (
	"errors"
	"io"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
)

func sendRaw(tb testing.TB, sock int, data []byte, fds ...int) {
	tb.Helper()
	if n, err := sendRights(sock, data, fds); n != len(data) || err != nil {
		tb.Fatalf("sent %d of %d bytes, %v", n, len(data), err)
	}
}

// header is a frame's header with a length.
func header(version byte, size uint32) []byte {
	return []byte{version, byte(size), byte(size >> 8), byte(size >> 16), byte(size >> 24)}
}

// TestNoFrame: bytes that are no frame end the channel, before anything is
// allocated for them, and with every descriptor closed.
func TestNoFrame(t *testing.T) {
	for _, c := range []struct {
		name   string
		data   []byte
		stream bool // it breaks a stream too, where the rest may be still to come
	}{
		{"version 2", header(2, 0), true},
		{"version 0", make([]byte, 40), true},
		{"huge", header(frame.Version, 0xFFFFFFFF), true},
		{"one too large", header(frame.Version, MaxMessage-frame.HeaderLen+1), true},
		{"no header", header(frame.Version, 0)[:4], false},
		{"body too short", append(header(frame.Version, 3), "ab"...), false},
		{"body too long", append(header(frame.Version, 3), "abcd"...), false},
	} {
		for fds := range 3 {
			t.Run(c.name, func(t *testing.T) {
				testutil.Leaks(t)
				fd := openFile(t)
				near, far := rawEndOf(t, unix.SOCK_SEQPACKET)
				defer func() { _ = unix.Close(far) }()
				sendRaw(t, far, c.data, []int{fd, fd}[:fds]...)
				wantEnd(t, near, ErrProtocol)
				if !c.stream {
					return
				}
				near, end := rawEndOf(t, unix.SOCK_STREAM)
				defer func() { _ = unix.Close(end) }()
				sendRaw(t, end, c.data, []int{fd, fd}[:fds]...)
				wantEnd(t, near, ErrProtocol)
			})
		}
	}
}

// TestEmptyDatagram can't be told from the peer's end, unless descriptors came
// with it.
func TestEmptyDatagram(t *testing.T) {
	testutil.Leaks(t)
	near, far := rawEndOf(t, unix.SOCK_SEQPACKET)
	defer func() { _ = unix.Close(far) }()
	if _, err := unix.SendmsgN(far, nil, nil, nil, 0); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, near, io.EOF)
	if _, err := unix.SendmsgN(far, nil, unix.UnixRights(openFile(t)), nil, 0); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, near, ErrProtocol)
}

// TestTruncatedDatagram: it must be answered, so it comes out, marked.
func TestTruncatedDatagram(t *testing.T) {
	testutil.Leaks(t)
	near, far := rawEndOf(t, unix.SOCK_SEQPACKET)
	defer func() { _ = unix.Close(far) }()
	fd := openFile(t)
	sendRaw(t, far, testMessage(t, 1, MaxMessage), fd, fd)
	sendRaw(t, far, testMessage(t, 2, 0))
	m, err := near.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if !errors.Is(m.Fault, ErrTruncated) || m.FDs.Len() != 2 || len(m.Body) != MaxMessage-frame.HeaderLen {
		t.Errorf("%d bytes, %d descriptors, %v", len(m.Body), m.FDs.Len(), m.Fault)
	}
	if _, err := m.Frame(); !errors.As(err, new(*frame.DecodeError)) {
		t.Errorf("a part was decoded: %v", err)
	}
	m.FDs.Close()
	if f, _ := receiveWhole(t, near); f.RequestId != 2 {
		t.Errorf("then came %d", f.RequestId)
	}
}

// TestDescriptorsLost: with the descriptor table full a message comes out whole,
// but for its descriptors, and marked; it can be answered at once (faults row 9).
func TestDescriptorsLost(t *testing.T) {
	testutil.Leaks(t)
	near, far := ends(t)
	fd := openFile(t)
	sendOn(t, near, testMessage(t, 1, 0), fd, fd)
	sendOn(t, near, testMessage(t, 2, 0), fd, fd)
	release := testutil.FillTable(t)
	m, err := far.Recv()
	release()
	if err != nil {
		t.Fatal(err)
	}
	if f, err := m.Frame(); err != nil || f.RequestId != 1 || m.FDs.Len() != 0 || !errors.Is(m.Fault, ErrDescriptorsLost) {
		t.Errorf("got %v, %v, %d descriptors, %v", f, err, m.FDs.Len(), m.Fault)
	}
	if f, n := receiveWhole(t, far); f.RequestId != 2 || n != 2 {
		t.Errorf("then came %d with %d descriptors", f.RequestId, n)
	}
}

func TestPairWithAFullTable(t *testing.T) {
	testutil.Leaks(t)
	release := testutil.FillTable(t)
	near, far, err := Pair()
	release()
	if near != nil || far != nil || !errors.Is(err, unix.EMFILE) {
		t.Errorf("got %v, %v, %v", near, far, err)
	}
}

// FuzzRecv sends bytes cut into pieces, with descriptors beside any of them.
// Whatever comes out is framed as its bytes say, no more descriptors come out
// than went in, and none stays open.
func FuzzRecv(f *testing.F) {
	msg := testMessage(f, 3, 12)
	two := append(testMessage(f, 1, 3), testMessage(f, 2, 0)...)
	f.Add(msg, uint32(0), uint16(1), true)
	f.Add(msg, uint32(0x0503), uint16(0b0101), true)
	f.Add(two, uint32(0x02), uint16(3), true)
	f.Add(two, uint32(len(testMessage(f, 1, 3))), uint16(0b1001), false)
	f.Add(header(frame.Version, 0xFFFFFFFF), uint32(0), uint16(2), true)
	f.Add(header(2, 0), uint32(0), uint16(0), false)
	f.Add([]byte{}, uint32(0), uint16(1), false)
	f.Fuzz(func(t *testing.T, data []byte, cuts uint32, rights uint16, onStream bool) {
		fd := openFile(t)
		before := testutil.OpenDescriptors(t)
		var near reader
		var far int
		var end func() error
		if onStream {
			conn, peer := rawEndOf(t, unix.SOCK_STREAM)
			near, far, end = conn, peer, conn.Close
		} else {
			conn, peer := rawEndOf(t, unix.SOCK_SEQPACKET)
			near, far, end = conn, peer, conn.Close
		}
		sent := 0
		for ; len(data) > 0; cuts, rights = cuts>>8, rights>>2 {
			piece := data[:min(len(data), MaxMessage+100)]
			if n := int(cuts & 0xFF); n > 0 {
				piece = data[:min(n, len(piece))]
			}
			n, err := sendRights(far, piece, []int{fd, fd, fd}[:rights&3])
			if err != nil {
				break // full: what is in goes through all the same
			}
			sent += int(rights & 3)
			data = data[n:]
		}
		_ = unix.Close(far)
		received := 0
		for {
			m, err := near.Recv()
			if err != nil {
				break
			}
			if len(m.Body) > MaxMessage-frame.HeaderLen {
				t.Fatalf("a body of %d bytes", len(m.Body))
			}
			_, _ = m.Frame()
			received += m.FDs.Len()
			m.FDs.Close()
		}
		_ = end()
		if received > sent {
			t.Errorf("%d descriptors went in, %d came out", sent, received)
		}
		if after := testutil.OpenDescriptors(t); after != before {
			t.Errorf("%d descriptors were open before, %d after", before, after)
		}
	})
}

package backend_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

const (
	rejected    = wire.NackReason_NACK_REASON_REJECTED
	descriptors = wire.NackReason_NACK_REASON_DESCRIPTORS
	claimLost   = wire.NackReason_NACK_REASON_CLAIM_LOST
	unsupported = wire.NackReason_NACK_REASON_UNSUPPORTED
	busy        = wire.NackReason_NACK_REASON_BUSY
)

// hostile is one message on a channel and what must come of it. No descriptor of
// it may stay open; Leaks counts them.
type hostile struct {
	name   string
	data   []byte            // nil: a good offer
	offer  func(*wire.Offer) // changes the offer
	frame  func(*wire.Frame)
	conn   func(t *testing.T) int // in place of the connection; the case closes it
	claim  func(t *testing.T) int // in place of the claim; the case closes it
	fds    func(conn, claim int) []int
	taken  bool // the broker took the claim first
	reason wire.NackReason
	silent bool // handoff id and token can't be read, so they are not echoed
	retire bool
	cut    bool // a datagram alone can be that
}

var hostiles = []hostile{
	{name: "no descriptors", fds: func(_, _ int) []int { return nil }, reason: descriptors},
	{name: "connection alone", fds: func(c, _ int) []int { return []int{c} }, reason: descriptors},
	{name: "one too many", fds: func(c, k int) []int { return []int{c, k, c} }, reason: descriptors, retire: true},
	{name: "253", fds: func(c, _ int) []int { return many(c, 253) }, reason: descriptors, retire: true},
	{name: "order reversed", fds: func(c, k int) []int { return []int{k, c} }, reason: descriptors},

	{name: "connection is a file", conn: devNull, reason: descriptors},
	{name: "connection is a pipe", conn: pipeEnd(0, unix.O_NONBLOCK), reason: descriptors},
	{name: "connection is TCP", conn: tcpSocket, reason: descriptors},
	{name: "connection is UDP", conn: bare(unix.AF_INET, unix.SOCK_DGRAM), reason: descriptors},
	{name: "connection is a datagram pair", conn: half(unix.SOCK_DGRAM), reason: descriptors},
	{name: "connection is a seqpacket pair", conn: half(unix.SOCK_SEQPACKET), reason: descriptors},
	{name: "connection is not connected", conn: bare(unix.AF_UNIX, unix.SOCK_STREAM), reason: descriptors},
	{name: "connection is a listener", conn: unixListener, reason: descriptors},

	{name: "claim is a file", claim: devNull, reason: descriptors},
	{name: "claim is a socket", claim: half(unix.SOCK_STREAM), reason: descriptors},
	{name: "claim is a blocking pipe", claim: pipeEnd(0, 0), reason: descriptors},
	{name: "claim is a writing end", claim: pipeEnd(1, unix.O_NONBLOCK), reason: descriptors},
	{name: "claim is empty", claim: pipeEnd(0, unix.O_NONBLOCK), reason: claimLost},
	{name: "claim is taken", taken: true, reason: claimLost},

	{name: "token empty", offer: func(o *wire.Offer) { o.Token = nil }, reason: rejected},
	{name: "token of 15", offer: func(o *wire.Offer) { o.Token = token[:15] }, reason: rejected},
	{name: "token of 17", offer: func(o *wire.Offer) { o.Token = append(token[:16:16], 'x') }, reason: rejected},
	{name: "token fills the message", offer: func(o *wire.Offer) { o.Token, o.Preamble = make([]byte, sock.MaxMessage-40), nil }, reason: rejected},
	{name: "no preamble", offer: func(o *wire.Offer) { o.Preamble = nil }, reason: rejected},

	{name: "wrong protocol", frame: func(f *wire.Frame) { f.PayloadProtocol = frame.Control }, reason: unsupported, silent: true},
	{name: "wrong kind", frame: func(f *wire.Frame) { f.Kind = wire.FrameKind_FRAME_KIND_RESPONSE }, reason: unsupported, silent: true},
	{name: "event", frame: func(f *wire.Frame) { f.Kind = wire.FrameKind_FRAME_KIND_EVENT }, reason: unsupported, silent: true},
	{name: "another protocol, payload and descriptors", frame: func(f *wire.Frame) { f.PayloadProtocol, f.Payload = 0xF0AB, []byte{0xff} },
		fds: func(c, k int) []int { return []int{c, k, c} }, reason: unsupported, silent: true},
	{name: "another protocol, no descriptor", frame: func(f *wire.Frame) { f.PayloadProtocol = 0xF0AB },
		fds: func(_, _ int) []int { return nil }, reason: unsupported, silent: true},
	{name: "wrong envelope", frame: func(f *wire.Frame) { f.EnvelopeVersion = 2 }, reason: rejected, silent: true},
	{name: "compressed", frame: func(f *wire.Frame) { f.PayloadEncoding = 1 }, reason: rejected, silent: true},
	{name: "ids differ", frame: func(f *wire.Frame) { f.RequestId++ }, reason: rejected, silent: true},
	{name: "payload is no offer", frame: func(f *wire.Frame) { f.Payload = []byte{0xff, 0xff} }, reason: rejected, silent: true},
	{name: "body is no frame", data: []byte{1, 2, 0, 0, 0, 0xff, 0xff}, reason: rejected, silent: true},

	{name: "garbage", data: []byte("garbage"), reason: rejected, silent: true, retire: true},
	{name: "cut header", data: []byte{1, 2, 0}, reason: rejected, silent: true, retire: true, cut: true},
	{name: "length above the bound", data: binary.LittleEndian.AppendUint32([]byte{1}, 0xffffffff), reason: rejected, silent: true, retire: true},
}

func TestHostileMessages(t *testing.T) {
	for _, h := range hostiles {
		t.Run(h.name, func(t *testing.T) {
			if onStream && h.cut {
				t.Skip("on a stream the rest may follow")
			}
			testutil.Leaks(t)
			h.run(t)
		})
	}
}

func (h *hostile) run(t *testing.T) {
	ln, w, wires := behindFake(t)
	w.works(t, ln, 1)
	l := newLoad(t)
	h.send(t, w, l)
	ack := w.ack(t)
	if ack.Accepted || ack.Reason != h.reason || ack.Detail == "" {
		t.Errorf("answer %v, want a NACK, %v", ack, h.reason)
	}
	if h.silent != (ack.HandoffId == 0) || h.silent && len(ack.Token) != 0 {
		t.Errorf("answer names handoff %d, token of %d bytes", ack.HandoffId, len(ack.Token))
	}
	if strings.Contains(ack.Detail, string(token)) {
		t.Error("the answer's detail shows the token")
	}
	// Nothing of the backend's holds the connection, and nothing was written to it.
	if h.conn == nil {
		l.drop()
		wantEnd(t, l.client)
	}
	if h.retire {
		if _, err := w.Recv(); err != io.EOF {
			t.Errorf("after the NACK the channel reads %v, want its end", err)
		}
		w = next(t, wires)
	}
	w.works(t, ln, 3)
}

// send sends the message and closes what it made for it.
func (h *hostile) send(t *testing.T, w session, l *load) {
	t.Helper()
	conn, claim := l.conn, l.claimFD()
	if h.conn != nil {
		conn = h.conn(t)
		defer func() { _ = unix.Close(conn) }()
	}
	if h.claim != nil {
		claim = h.claim(t)
		defer func() { _ = unix.Close(claim) }()
	}
	if h.taken {
		if won, err := l.claim.Take(); !won || err != nil {
			t.Fatal(won, err)
		}
	}
	fds := []int{conn, claim}
	if h.fds != nil {
		fds = h.fds(conn, claim)
	}
	data := h.data
	if data == nil {
		o := offer(2)
		if h.offer != nil {
			h.offer(o)
		}
		f := frame.ChannelOffer(o)
		if h.frame != nil {
			h.frame(f)
		}
		data = framed(t, f)
	}
	if err := w.Send(data, fds...); err != nil {
		t.Fatal(err)
	}
}

// TestTwoRightsMessages: the kernel merges them, so they count together.
func TestTwoRightsMessages(t *testing.T) {
	testutil.Leaks(t)
	ln, w, wires := behindFake(t)
	l := newLoad(t)
	rights := append(unix.UnixRights(l.conn, l.claimFD()), unix.UnixRights(l.conn)...)
	err := unix.Sendmsg(w.fd, framed(t, frame.ChannelOffer(offer(1))), rights, nil, unix.MSG_DONTWAIT)
	if err != nil {
		t.Fatal(err)
	}
	if ack := w.ack(t); ack.Accepted || ack.Reason != descriptors || ack.HandoffId != 1 {
		t.Errorf("answer %v", ack)
	}
	l.drop()
	wantEnd(t, l.client)
	next(t, wires).works(t, ln, 2)
}

// TestTruncatedMessage: a datagram longer than a channel allows arrives cut, and
// is answered.
func TestTruncatedMessage(t *testing.T) {
	if onStream {
		t.Skip("on a stream nothing arrives cut")
	}
	testutil.Leaks(t)
	ln, w, _ := behindFake(t)
	l := newLoad(t)
	f := frame.ChannelOffer(offer(1, func(o *wire.Offer) { o.Tracestate = strings.Repeat("x", sock.MaxMessage) }))
	if err := unix.Sendmsg(w.fd, framed(t, f), unix.UnixRights(l.conn, l.claimFD()), nil, unix.MSG_DONTWAIT); err != nil {
		t.Fatal(err)
	}
	if ack := w.ack(t); ack.Accepted || ack.Reason != descriptors {
		t.Errorf("answer %v", ack)
	}
	l.drop()
	wantEnd(t, l.client)
	w.works(t, ln, 2)
}

// TestReplayedClaim: the same connection and claim, offered twice, are adopted
// once.
func TestReplayedClaim(t *testing.T) {
	testutil.Leaks(t)
	ln, w, _ := behindFake(t)
	l := newLoad(t)
	for id := range uint64(2) {
		if err := w.Send(framed(t, frame.ChannelOffer(offer(id+1))), l.conn, l.claimFD()); err != nil {
			t.Fatal(err)
		}
	}
	if ack := w.ack(t); !ack.Accepted {
		t.Errorf("first: %v", ack)
	}
	if ack := w.ack(t); ack.Accepted || ack.Reason != claimLost {
		t.Errorf("second: %v", ack)
	}
	l.drop()
	wantBytes(t, l.client, preamble)
	testutil.CheckConnected(t, l.client, accept(t, ln))
}

// TestUnreadBeforeTheClaim: with the claim gone, the bytes that wait in the
// connection are still there for its owner.
func TestUnreadBeforeTheClaim(t *testing.T) {
	testutil.Leaks(t)
	_, w, _ := behindFake(t)
	l := newLoad(t)
	send(t, l.client, "early")
	if won, err := l.claim.Take(); !won || err != nil {
		t.Fatal(won, err)
	}
	if err := w.Send(framed(t, frame.ChannelOffer(offer(1))), l.conn, l.claimFD()); err != nil {
		t.Fatal(err)
	}
	if ack := w.ack(t); ack.Reason != claimLost {
		t.Errorf("answer %v", ack)
	}
	owner := os.NewFile(uintptr(l.conn), "owner")
	l.conn = -1
	defer func() { _ = owner.Close() }()
	wantBytes(t, owner, "early")
	testutil.CheckConnected(t, owner, l.client)
}

// TestBusyNACK: a full queue refuses before the claim, so the broker wins it
// back.
func TestBusyNACK(t *testing.T) {
	testutil.Leaks(t)
	ln, w, _ := behindFake(t, func(o *backend.Options) { o.Backlog = 1 })
	first, second := newLoad(t), newLoad(t)
	for id, l := range []*load{first, second} {
		if err := w.Send(framed(t, frame.ChannelOffer(offer(uint64(id)+1))), l.conn, l.claimFD()); err != nil {
			t.Fatal(err)
		}
	}
	if ack := w.ack(t); !ack.Accepted {
		t.Errorf("first: %v", ack)
	}
	if ack := w.ack(t); ack.Accepted || ack.Reason != busy || ack.HandoffId != 2 {
		t.Errorf("second: %v", ack)
	}
	if won, err := second.claim.Take(); !won || err != nil {
		t.Errorf("claim of the refused connection: %v, %v", won, err)
	}
	_ = accept(t, ln).Close()
	w.works(t, ln, 3)
}

// TestClientGoneBeforeAdoption: the claim was taken, so the answer is an ACK; the
// connection is nobody's trouble.
func TestClientGoneBeforeAdoption(t *testing.T) {
	testutil.Leaks(t)
	ln, w, _ := behindFake(t, func(o *backend.Options) { o.Backlog = 1 })
	for id := range uint64(3) { // more than the queue has places
		l := newLoad(t)
		_ = l.client.Close()
		if err := w.Send(framed(t, frame.ChannelOffer(offer(id+1))), l.conn, l.claimFD()); err != nil {
			t.Fatal(err)
		}
		if ack := w.ack(t); !ack.Accepted {
			t.Errorf("answer %v", ack)
		}
	}
	w.works(t, ln, 4)
}

func many(fd, n int) []int {
	fds := make([]int, n)
	for i := range fds {
		fds[i] = fd
	}
	return fds
}

func open(t *testing.T, fd int, err error) int {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func devNull(t *testing.T) int {
	fd, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	return open(t, fd, err)
}

func bare(domain, sotype int) func(*testing.T) int {
	return func(t *testing.T) int {
		fd, err := unix.Socket(domain, sotype|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return open(t, fd, err)
	}
}

func half(sotype int) func(*testing.T) int {
	return func(t *testing.T) int {
		fds := testutil.FDPair(t, sotype)
		t.Cleanup(func() { _ = unix.Close(fds[1]) })
		return fds[0]
	}
}

func pipeEnd(end, flags int) func(*testing.T) int {
	return func(t *testing.T) int {
		var p [2]int
		if err := unix.Pipe2(p[:], flags|unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(p[1-end]) })
		return p[end]
	}
}

func duplicate(t *testing.T, fd int) int {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	return open(t, dup, err)
}

func tcpSocket(t *testing.T) int {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return duplicate(t, testutil.FD(t, c.(*net.TCPConn)))
}

func unixListener(t *testing.T) int {
	ln, err := net.Listen("unix", testutil.SocketPath(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return duplicate(t, testutil.FD(t, ln.(*net.UnixListener)))
}

// FuzzChannelMessage: whatever bytes a message has, it is answered exactly once,
// and the next good one is served on the same channel or on a new one.
func FuzzChannelMessage(f *testing.F) {
	if onStream {
		f.Skip("on a stream bytes that are no message may be the begin of one")
	}
	f.Add(framed(f, frame.ChannelOffer(offer(2))), uint8(2))
	f.Add(framed(f, frame.ChannelOffer(offer(2))), uint8(3))
	f.Add([]byte("garbage"), uint8(0))
	f.Add([]byte{1, 0, 0, 0, 0}, uint8(1))
	f.Add(bytes.Repeat([]byte{1}, 300), uint8(2))
	f.Fuzz(func(t *testing.T, data []byte, n uint8) {
		if len(data) == 0 || len(data) > sock.MaxMessage {
			return // an empty datagram without descriptors is the channel's end
		}
		ln, w, wires := behindFake(t)
		l := newLoad(t)
		if err := w.Send(data, []int{l.conn, l.claimFD(), l.conn}[:n%4]...); err != nil {
			t.Fatal(err)
		}
		ack := w.ack(t)
		l.drop()
		if ack.Accepted {
			_ = accept(t, ln).Close()
		}
		if !ack.Accepted && !w.alive(t) {
			w = next(t, wires)
		}
		w.works(t, ln, 7)
	})
}

package broker_test

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// Capabilities of the clients that tests play.
const (
	noHandoff   = 0
	v1Client    = frame.CapHandlePassing
	usherClient = frame.CapHandlePassing | frame.CapUsher
)

// helloFor is the Hello of a client with these capabilities, and its frame's
// bytes.
func helloFor(tb testing.TB, capabilities uint64, change func(*hello.Request)) []byte {
	tb.Helper()
	r := hello.Request{Service: demo, Version: demoVersion, Capabilities: capabilities}
	if change != nil {
		change(&r)
	}
	h := r.Hello()
	h.PeerPid = uint32(os.Getpid())
	return helloFrame(tb, h)
}

func helloFrame(tb testing.TB, h *wire.Hello) []byte {
	tb.Helper()
	f := frame.Request(frame.Control, 9, wire.Marshal(h))
	f.Traceparent, f.Tracestate = "00-trace-parent-01", "rp=1"
	return bytesOf(tb, f)
}

func bytesOf(tb testing.TB, f *wire.Frame) []byte {
	tb.Helper()
	b, err := frame.Append(nil, f)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func send(tb testing.TB, c net.Conn, b []byte) {
	tb.Helper()
	if _, err := c.Write(b); err != nil {
		tb.Fatal(err)
	}
}

func readFrame(tb testing.TB, c net.Conn) *wire.Frame {
	tb.Helper()
	f, _, err := frame.Read(c, frame.MaxBody)
	if err != nil {
		tb.Fatalf("no answer: %v", err)
	}
	return f
}

// checkEnvelope makes sure that f is exactly the frame of a HelloReply to a
// request with this id, and its trace when the id is not 0.
func checkEnvelope(tb testing.TB, f *wire.Frame, id uint64, trace bool) {
	tb.Helper()
	want := &wire.Frame{
		EnvelopeVersion: 1, Kind: wire.FrameKind_FRAME_KIND_RESPONSE, PayloadProtocol: frame.Control,
		RequestId: id, Payload: f.Payload,
	}
	if trace {
		want.Traceparent, want.Tracestate = "00-trace-parent-01", "rp=1"
	}
	if !testutil.Equal(f, want) {
		tb.Errorf("reply frame is %v, want %v", f, want)
	}
}

// readReply reads one HelloReply.
func readReply(tb testing.TB, c net.Conn) (*wire.Frame, *wire.HelloReply) {
	tb.Helper()
	f := readFrame(tb, c)
	reply := new(wire.HelloReply)
	if err := frame.Unmarshal(f.Payload, reply); err != nil {
		tb.Fatal(err)
	}
	return f, reply
}

// readRefusal reads a refusal with this code and text, behind which the
// connection ends.
func readRefusal(tb testing.TB, c net.Conn, code wire.ErrorCode, reason string) *wire.Refused {
	tb.Helper()
	_, reply := readReply(tb, c)
	refused := testutil.Refused(reply)
	if refused.Code != code || reason != "" && refused.Reason != reason {
		tb.Fatalf("got %v, want %v %q", reply, code, reason)
	}
	if refused.DaemonMinProtocol != 1 || refused.DaemonMaxProtocol != 1 {
		tb.Errorf("protocol range of %v is not 1 to 1", refused)
	}
	readEnd(tb, c)
	return refused
}

// readGrant reads a grant.
func readGrant(tb testing.TB, c net.Conn) *wire.Negotiated {
	tb.Helper()
	_, reply := readReply(tb, c)
	if reply.Negotiated == nil {
		tb.Fatalf("got %v, want a grant", reply)
	}
	return reply.Negotiated
}

// readSentAway is readPipe, and behind it the connection ends.
func readSentAway(tb testing.TB, c net.Conn, pipe string) *wire.Negotiated {
	tb.Helper()
	g := readPipe(tb, c, pipe)
	readEnd(tb, c)
	return g
}

// readPipe reads a grant without a token, which sends the client to pipe. The
// connection's end shows only once a backend that holds a copy closes it.
func readPipe(tb testing.TB, c net.Conn, pipe string) *wire.Negotiated {
	tb.Helper()
	g := readGrant(tb, c)
	if len(g.HandlePassedToken) != 0 || g.ServerCapabilities != frame.CapUsher || g.BackendPipe != pipe {
		tb.Fatalf("got %v, want to be sent to %s", g, pipe)
	}
	return g
}

// readHandedOver reads a grant with a token and the ready event.
func readHandedOver(tb testing.TB, c net.Conn) *wire.Negotiated {
	tb.Helper()
	g := readGrant(tb, c)
	if len(g.HandlePassedToken) != 16 || g.ServerCapabilities != frame.CapUsher|frame.CapHandlePassing {
		tb.Fatalf("got %v, want a token", g)
	}
	if err := frame.ParseHandoffReady(readFrame(tb, c), g.HandlePassedToken); err != nil {
		tb.Fatal(err)
	}
	return g
}

// readEnd makes sure that not one byte more comes. A peer that closes with
// something unread resets the connection.
func readEnd(tb testing.TB, c net.Conn) {
	tb.Helper()
	n, err := c.Read(make([]byte, 1))
	if n != 0 || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		tb.Fatalf("read %d bytes, %v; want the end", n, err)
	}
}

// checkEcho makes sure that an echoing backend serves c.
func checkEcho(tb testing.TB, c net.Conn) {
	tb.Helper()
	send(tb, c, []byte("marco"))
	readExactly(tb, c, "marco")
}

func readExactly(tb testing.TB, c net.Conn, want string) {
	tb.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		tb.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

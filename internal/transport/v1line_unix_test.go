//go:build unix

package transport

import (
	"bytes"
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// v1Line is the v1 exchange under test: a backend's handoff endpoint, and the
// client's connection that is to travel.
type v1Line struct {
	*net.UnixListener
	V1
	client *net.UnixConn   // the client's end
	conn   *net.UnixConn   // the broker's
	raw    syscall.RawConn // of conn
}

func newV1Line(t *testing.T) *v1Line {
	t.Helper()
	path := testutil.SocketPath(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	client, conn := testutil.SocketPair(t)
	return &v1Line{l.(*net.UnixListener), V1{Endpoint: path}, client, conn, testutil.Raw(t, conn)}
}

// backend runs act as the backend of one handoff; it owns what it is given until
// it returns. The test waits for its end.
func (l *v1Line) backend(t *testing.T, act func(c *net.UnixConn)) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.AcceptUnix()
		if err != nil {
			return // the test has ended without a dial
		}
		defer func() { _ = c.Close() }()
		act(c)
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
}

// sideBand receives the first bytes and the descriptors beside them.
func sideBand(t *testing.T, c *net.UnixConn) ([]byte, sock.Descriptors) {
	t.Helper()
	buf := make([]byte, handoff.TokenSize)
	m, err := sock.Receive(c, buf)
	if err = errors.Join(err, m.Fault); err != nil {
		t.Error(err)
	}
	return buf[:m.N], m.FDs
}

// nonblocking reports the flag of the connection, which all copies share.
func nonblocking(t *testing.T, c syscall.Conn) bool {
	t.Helper()
	flags, err := unix.FcntlInt(uintptr(testutil.FD(t, c)), unix.F_GETFL, 0)
	if err != nil {
		t.Fatal(err)
	}
	return flags&unix.O_NONBLOCK != 0
}

// v1Vector is the pinned exchange.
type v1Vector struct{ token, offer, reply []byte }

func readV1Vector(t *testing.T) v1Vector {
	t.Helper()
	var v struct {
		Streams []struct {
			Name     string
			Segments []struct{ Hex string }
			ReplyHex string `json:"reply_hex"`
		}
	}
	testutil.Vectors(t, "framed.json", &v)
	for _, s := range v.Streams {
		if s.Name == "unix_handoff_stream" && len(s.Segments) == 2 {
			return v1Vector{testutil.Hex(t, s.Segments[0].Hex), testutil.Hex(t, s.Segments[1].Hex), testutil.Hex(t, s.ReplyHex)}
		}
	}
	t.Fatal("no such stream")
	return v1Vector{}
}

// canonical is a framed offer as usher writes it: without the reference's zero
// handle value, and two bytes shorter in frame and payload for it.
func canonical(t *testing.T, offer []byte) []byte {
	t.Helper()
	const zeroHandle = "\x08\x00"
	at := bytes.Index(offer, []byte("\x22\x20"+zeroHandle))
	if at < 0 {
		t.Fatal("the vector has no zero handle value")
	}
	short := append(bytes.Clone(offer[:at+2]), offer[at+4:]...)
	short[1] -= 2
	short[at+1] -= 2
	return short
}

// v1Handoff is an attempt at a v1 exchange.
type v1Handoff struct {
	table *handoff.Table
	*handoff.Attempt
}

// v1Attempt has the vector's token.
func v1Attempt(t *testing.T, token []byte) v1Handoff {
	t.Helper()
	h := v1Handoff{handoff.NewTable(handoff.Config{Random: bytes.NewReader(token)}), new(handoff.Attempt)}
	if err := h.table.Issue(h.Attempt, time.Minute, time.Now()); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h v1Handoff) exchange(ctx context.Context, l *v1Line, offer handoff.Offer, wait time.Duration) handoff.Outcome {
	r := l.Exchange(ctx, h.Token(), offer, l.raw, wait)
	return r.Settle(h.Attempt, time.Now())
}

var v1Offer = handoff.Offer{Service: "demo-svc", ConnectionID: 1}

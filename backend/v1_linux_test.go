package backend_test

import (
	"encoding/hex"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// v1Backend is a backend with a v1 handoff endpoint, and the broker's end of a
// new connection to it.
func v1Backend(t testing.TB) (*backend.Listener, func() *net.UnixConn) {
	t.Helper()
	p := newPlace(t)
	ln := listen(t, p, func(o *backend.Options) { o.HandoffEndpoint, o.Backlog = p.pipe("h"), 2 })
	return ln, func() *net.UnixConn { return dialPipe(t, p.pipe("h")) }
}

// v1Stream is what a v1 broker writes, from the vectors: token beside the
// descriptor, offer; and what it gets.
func v1Stream(t testing.TB) (token, offer []byte, reply string) {
	t.Helper()
	var v struct {
		Streams []struct {
			Name     string
			Segments []struct{ Hex string }
			Reply    string `json:"reply_hex"`
		}
	}
	testutil.Vectors(t, "framed.json", &v)
	for _, s := range v.Streams {
		if s.Name == "unix_handoff_stream" {
			return testutil.Hex(t, s.Segments[0].Hex), testutil.Hex(t, s.Segments[1].Hex), string(testutil.Hex(t, s.Reply))
		}
	}
	t.Fatal("no vector unix_handoff_stream")
	return nil, nil, ""
}

func passV1(t testing.TB, c *net.UnixConn, data []byte, fds ...int) {
	t.Helper()
	if n, err := testutil.SendFDs(testutil.FD(t, c), data, fds...); n != len(data) || err != nil {
		t.Fatal(n, err)
	}
}

// TestV1Handoff: the exact bytes of the specification.
func TestV1Handoff(t *testing.T) {
	testutil.Leaks(t)
	ln, dialV1 := v1Backend(t)
	token, offer, reply := v1Stream(t)
	for range 3 {
		l := newLoad(t)
		if err := unix.SetNonblock(l.conn, false); err != nil { // as a v1 broker passes it
			t.Fatal(err)
		}
		c := dialV1()
		passV1(t, c, token, l.conn)
		send(t, c, string(offer))
		wantBytes(t, c, reply)
		wantEnd(t, c)
		l.drop()
		s := accept(t, ln)
		testutil.CheckConnected(t, l.client, s)
		testutil.CheckConnected(t, s, l.client)
		_ = s.Close()
		wantEnd(t, l.client)
	}
}

// TestV1Rejections: each ends with the text of spec 02 §8, the descriptor
// closed, and the endpoint ready for the next.
func TestV1Rejections(t *testing.T) {
	token, _, _ := v1Stream(t)
	other := append([]byte{0xff}, token[1:]...)
	tests := []struct {
		name     string
		sideband []byte
		token    []byte
		conn     func(*testing.T) int
		want     string // empty: any text
	}{
		{"missing", token, nil, nil, "handoff token is missing"},
		{"15 bytes", token, token[:15], nil, "handoff token length was 15 bytes; expected 16"},
		{"17 bytes", token, append(token[:16:16], 0), nil, "handoff token length was 17 bytes; expected 16"},
		{"mismatch", other, token, nil, "handoff token mismatch"},
		{"no socket", token, token, devNull, ""},
		{"listener", token, token, unixListener, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			testutil.Leaks(t)
			ln, dialV1 := v1Backend(t)
			l := newLoad(t)
			fd := l.conn
			if test.conn != nil {
				fd = test.conn(t)
				defer func() { _ = unix.Close(fd) }()
			}
			c := dialV1()
			passV1(t, c, test.sideband, fd)
			send(t, c, string(framed(t, frame.HandoffOffer(&wire.HandoffOffer{Token: test.token, ServiceName: service, CorrelationId: 7}))))
			ack := v1Ack(t, c)
			if ack.Accepted || ack.CorrelationId != 7 || string(ack.Token) != string(test.token) {
				t.Errorf("answer %v", ack)
			}
			if test.want != "" && ack.ErrorDetail != test.want || ack.ErrorDetail == "" {
				t.Errorf("text %q, want %q", ack.ErrorDetail, test.want)
			}
			wantEnd(t, c)
			l.drop()
			wantEnd(t, l.client)
			goodV1(t, ln, dialV1())
		})
	}
}

func v1Ack(t testing.TB, c *net.UnixConn) *wire.HandoffAck {
	t.Helper()
	f, _, err := frame.Read(c, frame.MaxHelloBody)
	if err != nil {
		t.Fatal(err)
	}
	if err := frame.Check(f, wire.FrameKind_FRAME_KIND_RESPONSE, frame.Handoff); err != nil {
		t.Fatal(err)
	}
	ack := new(wire.HandoffAck)
	if err := frame.Unmarshal(f.Payload, ack); err != nil {
		t.Fatal(err)
	}
	return ack
}

func goodV1(t testing.TB, ln *backend.Listener, c *net.UnixConn) {
	t.Helper()
	token, offer, reply := v1Stream(t)
	l := newLoad(t)
	passV1(t, c, token, l.conn)
	send(t, c, string(offer))
	wantBytes(t, c, reply)
	l.drop()
	s := accept(t, ln)
	testutil.CheckConnected(t, l.client, s)
	_ = s.Close()
}

// TestV1Faults: a faulty transfer or offer gets no answer (spec 02 §8 row 3),
// and leaves nothing.
func TestV1Faults(t *testing.T) {
	var vectors struct {
		Offers []struct {
			Name string
			Wire string `json:"wire_hex"`
		} `json:"handoff_offer_frames"`
	}
	testutil.Vectors(t, "invalid.json", &vectors)
	token, offer, _ := v1Stream(t)
	type fault struct {
		token, offer []byte
		fds          int
	}
	faults := map[string]fault{
		"no descriptor":    {token, offer, 0},
		"two descriptors":  {token, offer, 2},
		"garbage":          {token, []byte("GET / HTTP/1.1\r\n"), 1},
		"offer cut":        {token, offer[:20], 1},
		"token cut":        {token[:8], nil, 1},
		"nothing":          {nil, nil, 0},
		"length forbidden": {token, []byte{1, 0xff, 0xff, 0xff, 0xff}, 1},
	}
	for _, v := range vectors.Offers {
		sent, err := hex.DecodeString(v.Wire)
		if err == nil && len(sent) > 0 {
			faults["vector "+v.Name] = fault{token, sent, 1}
		}
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			ln, dialV1 := v1Backend(t)
			l := newLoad(t)
			c := dialV1()
			if len(fault.token) > 0 {
				passV1(t, c, fault.token, many(l.conn, fault.fds)...)
			}
			_, _ = c.Write(fault.offer) // the backend may have hung up already
			_ = c.CloseWrite()
			if answer, _ := io.ReadAll(c); len(answer) != 0 {
				t.Errorf("answered %x", answer)
			}
			l.drop()
			wantEnd(t, l.client)
			goodV1(t, ln, dialV1())
		})
	}
}

// TestV1TokenInPieces: the descriptor comes with the first byte.
func TestV1TokenInPieces(t *testing.T) {
	testutil.Leaks(t)
	ln, dialV1 := v1Backend(t)
	token, offer, reply := v1Stream(t)
	l := newLoad(t)
	c := dialV1()
	passV1(t, c, token[:1], l.conn)
	for _, b := range append(token[1:16:16], offer...) {
		send(t, c, string([]byte{b}))
	}
	wantBytes(t, c, reply)
	l.drop()
	testutil.CheckConnected(t, l.client, accept(t, ln))
}

// TestV1QueueFull: rejected, so that the broker's client reconnects.
func TestV1QueueFull(t *testing.T) {
	testutil.Leaks(t)
	_, dialV1 := v1Backend(t)
	token, offer, _ := v1Stream(t)
	for i, want := range []bool{true, true, false} {
		l := newLoad(t)
		c := dialV1()
		passV1(t, c, token, l.conn)
		send(t, c, string(offer))
		if ack := v1Ack(t, c); ack.Accepted != want {
			t.Errorf("offer %d: %v", i, ack)
		}
	}
}

// TestV1SilentConnections: connections that say nothing hold no handoff up until
// every place is taken; each that leaves gives its own back.
func TestV1SilentConnections(t *testing.T) {
	testutil.Leaks(t)
	ln, dialV1 := v1Backend(t)
	const places = 8
	var silent []*net.UnixConn
	for range places - 1 {
		silent = append(silent, dialV1())
	}
	goodV1(t, ln, dialV1())
	silent = append(silent, dialV1())
	_ = silent[0].Close()
	goodV1(t, ln, dialV1())
	for _, c := range silent[1:] { // had they timed out, this would prove nothing
		if _, _, err := unix.Recvfrom(testutil.FD(t, c), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("a silent connection has ended: %v", err)
		}
	}
}

// TestV1AtOnce: who comes when every place is taken is not accepted before one is free.
func TestV1AtOnce(t *testing.T) {
	testutil.Leaks(t)
	ln, dialV1 := v1Backend(t)
	before := testutil.OpenDescriptors(t)
	more := func() int { return testutil.OpenDescriptors(t) - before }
	const places = 8
	var silent []*net.UnixConn
	for range places {
		silent = append(silent, dialV1())
	}
	testutil.WaitFor(t, "every place is taken", func() bool { return more() == 2*places })
	dialV1()
	for range 2 { // behind which the loop has looked at everything that was there before
		c := dialPipe(t, ln.Addr().String())
		_ = accept(t, ln).Close()
		_ = c.Close()
	}
	testutil.WaitFor(t, "it has no end here", func() bool { return more() == 2*places+1 })
	_ = silent[0].Close()
	testutil.WaitFor(t, "the next one has the place", func() bool { return more() == 2*places })
}

// TestV1SilentBroker: a broker that sends no offer does not hold Close up.
func TestV1SilentBroker(t *testing.T) {
	testutil.Leaks(t)
	ln, dialV1 := v1Backend(t)
	token, _, _ := v1Stream(t)
	l := newLoad(t)
	c := dialV1()
	passV1(t, c, token, l.conn)
	begin := time.Now()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 4*time.Second { // the broker has 5 s
		t.Errorf("Close took %v", took)
	}
	l.drop()
	wantEnd(t, l.client)
}

package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

var token = []byte("0123456789abcdef")

// TestReady: only a ready event with the very token ends a handoff; anything
// else means reconnect, silently (spec 02 §7).
func TestReady(t *testing.T) {
	ready := framed(frame.HandoffReady(token, 7))
	ack := func(change func(*wire.HandoffAck)) []byte {
		a := &wire.HandoffAck{Token: token, Accepted: true, CorrelationId: 7}
		change(a)
		return framed(frame.Event(frame.Handoff, 7, wire.Marshal(a)))
	}
	tests := []struct {
		name   string
		then   []byte // behind a reply with a token
		hang   bool   // leave the connection open
		handed bool
	}{
		{name: "ready", then: ready, handed: true},
		{name: "ready with other ids", then: framed(frame.HandoffReady(token, 99)), handed: true},
		{name: "end of stream"},
		{name: "half an event", then: ready[:9]},
		{name: "nothing in time", hang: true},
		{name: "half in time", then: ready[:9], hang: true},
		{name: "wrong token", then: ack(func(a *wire.HandoffAck) { a.Token = token[:15] })},
		{name: "no token", then: ack(func(a *wire.HandoffAck) { a.Token = nil })},
		{name: "refused", then: ack(func(a *wire.HandoffAck) { a.Accepted = false })},
		{name: "garbage", then: []byte("HTTP/1.1 200 OK\r\n\r\n")},
		{name: "wrong kind", then: framed(frame.HandoffAck(&wire.HandoffAck{Token: token, Accepted: true}))},
		{name: "wrong protocol", then: framed(frame.Event(frame.Channel, 7, nil))},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			testutil.Leaks(t)
			pipe := named(t, "reconnected")
			socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
				write(c, grant(f, hello.Grant{BackendPipe: pipe, Token: token, ConnectionID: 7}))
				_, _ = c.Write(test.then)
				switch {
				case test.handed:
					converse(c, "handed over")
				case test.hang:
					hold(c)
				}
			})
			c := mustDial(t, options(socket, func(o *client.Options) {
				if o.ReadyTimeout = patience; test.hang {
					o.ReadyTimeout = 10 * time.Millisecond
				}
			}))
			want, name := client.Reconnected, "reconnected"
			if test.handed {
				want, name = client.HandedOver, "handed over"
			}
			if c.Route() != want || c.ID() != 7 || c.Endpoint() != pipe {
				t.Errorf("route %s, id %d, endpoint %s", c.Route(), c.ID(), c.Endpoint())
			}
			wantConversation(t, c, name)
		})
	}
}

// TestTokenIsIgnored where no handoff can follow: without bit 0, or when the
// client asked for none.
func TestTokenIsIgnored(t *testing.T) {
	testutil.Leaks(t)
	pipe := named(t, "reconnected")
	capabilities := make(chan uint64, 1)
	bare := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
		h := new(wire.Hello)
		if err := frame.Unmarshal(f.Payload, h); err != nil {
			t.Error(err)
		}
		capabilities <- h.ClientCapabilities
		reply := hello.Grant{BackendPipe: pipe}.Reply()
		reply.Negotiated.HandlePassedToken = token
		write(c, hello.ReplyFrame(f, reply), frame.HandoffReady(token, 1))
	})
	c := mustDial(t, options(bare))
	wantConversation(t, c, "reconnected")
	if got := <-capabilities; got != frame.CapHandlePassing|frame.CapUsher {
		t.Errorf("capabilities %b", got)
	}
	c = mustDial(t, options(bare, func(o *client.Options) { o.NoHandoff = true }))
	wantConversation(t, c, "reconnected")
	if got := <-capabilities; got != 0 {
		t.Errorf("capabilities with NoHandoff %b", got)
	}
}

// TestReplyInPieces: however the backend's bytes are cut, reply, event and what
// it says behind them arrive whole.
func TestReplyInPieces(t *testing.T) {
	testutil.Leaks(t)
	socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
		all := framed(grant(f, hello.Grant{BackendPipe: "/x", Token: token}), frame.HandoffReady(token, 1))
		for _, b := range append(all, "first bytes"...) {
			_, _ = c.Write([]byte{b})
		}
		converse(c, "")
	})
	wantConversation(t, mustDial(t, options(socket)), "first bytes")
}

// TestReplyAtOnce: what the backend says in the same write as the event stays
// for the application.
func TestReplyAtOnce(t *testing.T) {
	testutil.Leaks(t)
	long := strings.Repeat("0123456789", 5000)
	socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
		all := framed(grant(f, hello.Grant{BackendPipe: "/x", Token: token}), frame.HandoffReady(token, 1))
		_, _ = c.Write(append(all, long...))
		converse(c, "")
	})
	wantConversation(t, mustDial(t, options(socket)), long)
}

// TestFaultyReplies: each has its text, none is asked for again.
func TestFaultyReplies(t *testing.T) {
	good := func(f *wire.Frame) *wire.Frame { return grant(f, hello.Grant{BackendPipe: "/x"}) }
	changed := func(change func(*wire.Frame)) func(f *wire.Frame) []byte {
		return func(f *wire.Frame) []byte {
			r := good(f)
			change(r)
			return framed(r)
		}
	}
	raw := func(b string) func(*wire.Frame) []byte { return func(*wire.Frame) []byte { return []byte(b) } }
	tests := []struct {
		name  string
		reply func(f *wire.Frame) []byte
		want  string
	}{
		{"envelope", changed(func(r *wire.Frame) { r.EnvelopeVersion = 2 }), "envelope_version is not v1"},
		{"kind", changed(func(r *wire.Frame) { r.Kind = wire.FrameKind_FRAME_KIND_EVENT }), "kind is not RESPONSE"},
		{"protocol", changed(func(r *wire.Frame) { r.PayloadProtocol = frame.Admin }), "payload_protocol is not control-plane"},
		{"encoding", changed(func(r *wire.Frame) { r.PayloadEncoding = 1 }), "payload is compressed"},
		{"payload", changed(func(r *wire.Frame) { r.Payload = []byte{0xff} }), "malformed HelloReply"},
		{"no result", changed(func(r *wire.Frame) { r.Payload = nil }), "missing result"},
		{"no pipe", func(f *wire.Frame) []byte { return framed(grant(f, hello.Grant{})) }, "named no backend pipe"},
		{"garbage", raw("HTTP/1.1 400\r\n"), "unsupported framing version"},
		{"huge", raw("\x01\xff\xff\xff\xff"), "exceeds the cap"},
		{"body", raw("\x01\x01\x00\x00\x00\xff"), "malformed Frame"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			testutil.Leaks(t)
			var asked atomic.Int32
			socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
				asked.Add(1)
				_, _ = c.Write(test.reply(f))
			})
			_, err := client.Dial(bounded(t), options(socket))
			if err == nil || !strings.Contains(err.Error(), test.want) || asked.Load() != 1 {
				t.Errorf("asked %d times: %v; want %q", asked.Load(), err, test.want)
			}
		})
	}
}

// TestIDIsNotChecked: v1 refuses unreadable requests with id 0.
func TestIDIsNotChecked(t *testing.T) {
	testutil.Leaks(t)
	pipe := named(t, "x")
	socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
		f.RequestId = 0
		write(c, grant(f, hello.Grant{BackendPipe: pipe}))
	})
	wantConversation(t, mustDial(t, options(socket)), "x")
}

// TestAskAgain: a connection that ends without a verdict carried no request, so
// it may be asked for again, three times in all.
func TestAskAgain(t *testing.T) {
	pipe := named(t, "x")
	for name, end := range map[string]func(c *net.UnixConn){
		"closed":       func(*net.UnixConn) {},
		"cut":          func(c *net.UnixConn) { _, _ = c.Write([]byte{1, 50, 0}) },
		"unread bytes": nil, // closed before the Hello is read: a reset
	} {
		for fails := 1; fails <= 3; fails++ {
			t.Run(name, func(t *testing.T) {
				testutil.Leaks(t)
				var asked atomic.Int32
				socket := fake(t, func(c *net.UnixConn) {
					n := asked.Add(1)
					if int(n) <= fails && end == nil {
						_, _ = io.ReadFull(c, make([]byte, 1))
						return
					}
					f, _, err := frame.Read(c, frame.MaxHelloBody)
					if err != nil {
						return
					}
					if int(n) <= fails {
						end(c)
						return
					}
					write(c, grant(f, hello.Grant{BackendPipe: pipe}))
				})
				c, err := client.Dial(bounded(t), options(socket))
				if fails < 3 {
					if err != nil || int(asked.Load()) != fails+1 {
						t.Fatalf("asked %d times: %v", asked.Load(), err)
					}
					_ = c.Close()
					return
				}
				if !errors.Is(err, client.ErrBrokerUnreachable) || errors.Is(err, client.ErrOutcomeUnknown) || asked.Load() != 3 {
					t.Errorf("asked %d times: %v", asked.Load(), err)
				}
			})
		}
	}
}

// FuzzDialReply: whatever a broker says, Dial returns a connection or an error
// and leaves nothing open.
func FuzzDialReply(f *testing.F) {
	request := frame.Request(frame.Control, 1, nil)
	f.Add(framed(grant(request, hello.Grant{BackendPipe: "/nowhere"})))
	f.Add(framed(grant(request, hello.Grant{BackendPipe: "/nowhere", Token: token}), frame.HandoffReady(token, 1)))
	f.Add(framed(grant(request, hello.Grant{Token: token}), frame.HandoffReady(token[:3], 1)))
	f.Add(framed(hello.ReplyFrame(nil, (&hello.Refusal{Code: 3, Reason: "x"}).Reply())))
	f.Add([]byte("\x01\xff\xff\xff\xff"))
	f.Add([]byte("garbage"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, reply []byte) {
		testutil.Leaks(t)
		socket := fakeBroker(t, func(c *net.UnixConn, _ *wire.Frame) { _, _ = c.Write(reply) })
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		c, err := client.Dial(ctx, options(socket))
		if (c == nil) != (err != nil) || ctx.Err() != nil {
			t.Fatalf("%v, %v", c, err)
		}
		if err == nil {
			_ = c.Close()
		}
	})
}

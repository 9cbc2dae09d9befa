//go:build unix

package transport

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestV1DialFails: nothing was sent, the connection is as it was.
func TestV1DialFails(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, l *v1Line, ctx context.Context) context.Context
		class handoff.SendClass
		err   error
	}{
		"missing": {func(_ *testing.T, l *v1Line, ctx context.Context) context.Context {
			_ = l.Close()
			return ctx
		}, handoff.SendBackendUnavailable, syscall.ENOENT},
		"refused": {func(_ *testing.T, l *v1Line, ctx context.Context) context.Context {
			l.SetUnlinkOnClose(false)
			_ = l.Close()
			return ctx
		}, handoff.SendBackendUnavailable, syscall.ECONNREFUSED},
		"backlog full": {func(t *testing.T, l *v1Line, ctx context.Context) context.Context {
			if err := unix.Listen(testutil.FD(t, l.UnixListener), 0); err != nil {
				t.Fatal(err)
			}
			c, err := net.Dial("unix", l.Endpoint)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			return ctx
		}, handoff.SendWouldBlock, syscall.EAGAIN},
		"time is up": {func(t *testing.T, _ *v1Line, ctx context.Context) context.Context {
			ctx, cancel := context.WithDeadline(ctx, time.Unix(1, 0))
			t.Cleanup(cancel)
			return ctx
		}, handoff.SendBackendUnavailable, nil},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			l := newV1Line(t)
			ctx := c.spoil(t, l, t.Context())
			d, err := l.send(ctx, handoff.Token{1}, v1Offer, l.raw)
			var send *handoff.SendError
			if d != nil || !errors.As(err, &send) {
				t.Fatalf("got %v, %v", d, err)
			}
			if send.Stage != handoff.StageTransfer || send.Class != c.class || send.Reached() || c.err != nil && !errors.Is(err, c.err) {
				t.Errorf("got %+v: %v", send, err)
			}
			if !nonblocking(t, l.conn) {
				t.Error("the connection stays blocking")
			}
		})
	}
}

// TestV1NothingTransferred: the dial went well, but there was no connection to
// send.
func TestV1NothingTransferred(t *testing.T) {
	testutil.Leaks(t)
	l := newV1Line(t)
	l.backend(t, func(c *net.UnixConn) {
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("the backend got %d bytes, %v", n, err)
		}
	})
	_ = l.conn.Close()
	d, err := l.send(t.Context(), handoff.Token{1}, v1Offer, l.raw)
	var send *handoff.SendError
	if d != nil || !errors.As(err, &send) || send.Stage != handoff.StageTransfer || send.Reached() {
		t.Errorf("got %v, %v", d, err)
	}
}

// TestV1BackendEnds at every later step: the connection may be its, however
// little it did.
func TestV1BackendEnds(t *testing.T) {
	v := readV1Vector(t)
	readOffer := func(t *testing.T, c *net.UnixConn) {
		if _, _, err := frame.Read(c, frame.MaxBody); err != nil {
			t.Error(err)
		}
	}
	big := v1Offer
	big.Service = strings.Repeat("s", 4<<20) // does not fit into the socket's buffer
	for _, c := range []struct {
		name  string
		offer handoff.Offer
		act   func(t *testing.T, c *net.UnixConn)
		stage handoff.Stage
		err   error
	}{
		{"before the offer", big, func(*testing.T, *net.UnixConn) {}, handoff.StageDeliver, nil},
		{"with the offer unread", v1Offer, func(t *testing.T, c *net.UnixConn) {
			testutil.WaitFor(t, "the offer is there", func() bool {
				return testutil.Unread(t, c) == len(canonical(t, v.offer))
			})
		}, handoff.StageAwaitAck, handoff.ErrBackendGone},
		{"before the ACK", v1Offer, readOffer, handoff.StageAwaitAck, handoff.ErrBackendGone},
		{"inside the ACK", v1Offer, func(t *testing.T, c *net.UnixConn) {
			readOffer(t, c)
			if _, err := c.Write(v.reply[:len(v.reply)-1]); err != nil {
				t.Error(err)
			}
		}, handoff.StageAwaitAck, handoff.ErrBackendGone},
		{"with an answer that is no frame", v1Offer, func(t *testing.T, c *net.UnixConn) {
			readOffer(t, c)
			if _, err := c.Write([]byte("nonsense")); err != nil {
				t.Error(err)
			}
		}, handoff.StageAwaitAck, nil},
		{"with a huge answer", v1Offer, func(t *testing.T, c *net.UnixConn) {
			readOffer(t, c)
			if _, err := c.Write([]byte{frame.Version, 0xFF, 0xFF, 0xFF, 0xFF}); err != nil {
				t.Error(err)
			}
		}, handoff.StageAwaitAck, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			testutil.Leaks(t)
			l := newV1Line(t)
			l.backend(t, func(conn *net.UnixConn) {
				_, fds := sideBand(t, conn)
				defer fds.Close()
				c.act(t, conn)
			})
			h := v1Attempt(t, v.token)
			out := h.exchange(t.Context(), l, c.offer, time.Minute)
			if out.Verdict != handoff.Unknown || out.Stage != c.stage || !out.FDReachedBackend || c.err != nil && !errors.Is(out.Err, c.err) {
				t.Errorf("got %+v, want %v at %s", out, c.err, c.stage)
			}
			if nonblocking(t, l.conn) {
				t.Error("the flag was changed under a backend that may have adopted")
			}
			if h.table.Pending() != 0 {
				t.Errorf("left pending: %d", h.table.Pending())
			}
		})
	}
}

// TestV1Silence: a backend that never answers is given up at the deadline, or
// when the caller gives up.
func TestV1Silence(t *testing.T) {
	for name, c := range map[string]struct {
		deadline time.Duration
		err      error
	}{"deadline": {time.Millisecond, handoff.ErrNoAck}, "cancelled": {time.Hour, context.Canceled}} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			over := make(chan struct{})
			l := newV1Line(t)
			l.backend(t, func(conn *net.UnixConn) {
				_, fds := sideBand(t, conn)
				defer fds.Close()
				_, _, _ = frame.Read(conn, frame.MaxBody)
				if c.err == context.Canceled {
					cancel()
				}
				<-over
			})
			h := v1Attempt(t, readV1Vector(t).token)
			out := h.exchange(ctx, l, v1Offer, c.deadline)
			close(over)
			if out.Verdict != handoff.Unknown || !errors.Is(out.Err, c.err) {
				t.Errorf("got %+v, want %v", out, c.err)
			}
		})
	}
}

// TestV1LogsNoToken: what an exchange reports, and its own record, name no byte of its token.
func TestV1LogsNoToken(t *testing.T) {
	testutil.Leaks(t)
	v := readV1Vector(t)
	l := newV1Line(t)
	l.backend(t, func(conn *net.UnixConn) { _, fds := sideBand(t, conn); fds.Close() })
	out := v1Attempt(t, v.token).exchange(t.Context(), l, v1Offer, time.Minute)
	if text := fmt.Sprintf("%+v", out); out.Err == nil || strings.Contains(text, hex.EncodeToString(v.token)) || strings.Contains(text, string(v.token)) {
		t.Errorf("logged %q", text)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if text := fmt.Sprintf(verb, &v1Delivery{token: handoff.Token(v.token)}); text != "v1 exchange(redacted)" {
			t.Errorf("%s shows %q", verb, text)
		}
	}
}

//go:build unix

package transport

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestV1Stream compares the bytes of a whole exchange.
func TestV1Stream(t *testing.T) {
	testutil.Leaks(t)
	v := readV1Vector(t)
	want := canonical(t, v.offer)
	l := newV1Line(t)
	l.backend(t, func(c *net.UnixConn) {
		token, fds := sideBand(t, c)
		defer fds.Close()
		offer := make([]byte, len(want))
		_, err := io.ReadFull(c, offer)
		if !bytes.Equal(token, v.token) || fds.Len() != 1 || err != nil || !bytes.Equal(offer, want) {
			t.Errorf("the backend saw\n%x, %d descriptors, %x, %v; want\n%x, 1, %x", token, fds.Len(), offer, err, v.token, want)
			return
		}
		conn := fds.Take(0) // as another's backend has it
		defer conn.Close()
		if flags, err := unix.FcntlInt(uintptr(sock.Number(conn)), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
			t.Errorf("the connection is not blocking: %#x, %v", flags, err)
		}
		if _, err := unix.Write(sock.Number(conn), []byte("hello")); err != nil {
			t.Error(err)
		}
		if _, err := c.Write(v.reply); err != nil {
			t.Error(err)
		}
	})
	h := v1Attempt(t, v.token)
	out := h.exchange(t.Context(), l, v1Offer, time.Minute)
	if out.Verdict != handoff.Adopted || out.Late || out.Err != nil || h.table.Pending() != 0 {
		t.Errorf("got %+v, pending %d", out, h.table.Pending())
	}
	hello := make([]byte, 5)
	if _, err := l.client.Read(hello); err != nil || string(hello) != "hello" {
		t.Errorf("the backend had another connection: %q, %v", hello, err)
	}
	if nonblocking(t, l.conn) {
		t.Error("the flag was changed under the backend")
	}
}

// justCancelled is a context at the instant of its cancellation: it has its error, and
// those derived from it don't yet.
type justCancelled struct{ context.Context }

func (justCancelled) Err() error { return context.Canceled }

// TestV1AckBesideCancellation: an ACK that is there counts, though the wait is being
// cancelled.
func TestV1AckBesideCancellation(t *testing.T) {
	testutil.Leaks(t)
	v := readV1Vector(t)
	l := newV1Line(t)
	l.backend(t, func(c *net.UnixConn) {
		_, fds := sideBand(t, c)
		fds.Close()
		_, _ = io.ReadFull(c, make([]byte, len(canonical(t, v.offer))))
		_, _ = c.Write(v.reply)
	})
	h := v1Attempt(t, v.token)
	out := h.exchange(justCancelled{context.Background()}, l, v1Offer, time.Minute)
	if out.Verdict != handoff.Adopted || out.Err != nil {
		t.Errorf("got %+v", out)
	}
}

// TestV1AckVectors: of every answer but two the broker can't tell who owns the
// connection.
func TestV1AckVectors(t *testing.T) {
	var v struct {
		Acks struct {
			Offer struct{ Token string }
			Cases []struct {
				Name, Expect string
				WireHex      string `json:"wire_hex"`
			}
		} `json:"handoff_ack_frames"`
	}
	testutil.Vectors(t, "invalid.json", &v)
	if len(v.Acks.Cases) == 0 {
		t.Fatal("no vectors")
	}
	for _, c := range v.Acks.Cases {
		t.Run(c.Name, func(t *testing.T) {
			testutil.Leaks(t)
			l := newV1Line(t)
			l.backend(t, func(conn *net.UnixConn) {
				_, fds := sideBand(t, conn)
				defer fds.Close()
				if _, _, err := frame.Read(conn, frame.MaxBody); err != nil {
					t.Error(err)
				}
				if _, err := conn.Write(testutil.Hex(t, c.WireHex)); err != nil {
					t.Error(err)
				}
			})
			h := v1Attempt(t, testutil.Hex(t, v.Acks.Offer.Token))
			out := h.exchange(t.Context(), l, v1Offer, time.Minute)
			want := handoff.Unknown
			switch {
			case c.Expect == "ok":
				want = handoff.Adopted
			case strings.HasPrefix(c.Expect, "explicit rejection"):
				want = handoff.NotTaken
			}
			if out.Verdict != want || out.Rejected != (want == handoff.NotTaken) || !out.FDReachedBackend {
				t.Errorf("%s: got %+v, want %s", c.Expect, out, want)
			}
			// A connection that is the broker's again can be written with a deadline.
			if nonblocking(t, l.conn) != (want == handoff.NotTaken) {
				t.Errorf("non-blocking %v after %s", nonblocking(t, l.conn), out.Verdict)
			}
			if h.table.Pending() != 0 {
				t.Errorf("left pending: %d", h.table.Pending())
			}
		})
	}
}

package transport

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// v1Line is the v1 exchange under test: a backend's handoff endpoint, and the client's
// connection that is to travel. The backend is this very process.
type v1Line struct {
	V1
	backend *sock.Listener
	client  *sock.Conn      // the client's end
	conn    *sock.Conn      // the broker's
	raw     syscall.RawConn // of conn
	attempt handoff.Attempt
	table   *handoff.Table
}

var testToken = []byte("0123456789abcdef")

func newV1Line(t *testing.T) *v1Line {
	t.Helper()
	listen := func() (*sock.Listener, string) {
		var random [8]byte
		_, _ = rand.Read(random[:])
		path := `\\.\pipe\usher-test-` + hex.EncodeToString(random[:])
		l, err := sock.Listen(path, true)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l, path
	}
	l := &v1Line{table: handoff.NewTable(handoff.Config{Random: bytes.NewReader(testToken)})}
	clients, path := listen()
	var err error
	if l.client, err = sock.Dial(path); err != nil {
		t.Fatal(err)
	}
	l.conn = acceptOne(t, clients)
	t.Cleanup(func() { _, _ = l.client.Close(), l.conn.Close() })
	if l.raw, err = l.conn.SyscallConn(); err != nil {
		t.Fatal(err)
	}
	l.backend, path = listen()
	l.V1 = V1{Endpoint: path, PID: os.Getpid()}
	if err := l.table.Issue(&l.attempt, time.Minute, time.Now()); err != nil {
		t.Fatal(err)
	}
	return l
}

func acceptOne(t *testing.T, l *sock.Listener) (c *sock.Conn) {
	t.Helper()
	testutil.WaitFor(t, "the connection is there", func() bool {
		var err error
		c, err = l.Accept()
		return err == nil
	})
	return c
}

// exchange has act be the backend, which is over when it returns.
func (l *v1Line) exchange(t *testing.T, service string, act func(c *sock.Conn)) handoff.Outcome {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c := acceptOne(t, l.backend)
		act(c)
		_ = c.Close()
	}()
	offer := handoff.Offer{Service: service, ConnectionID: 1}
	r := l.Exchange(t.Context(), l.attempt.Token(), offer, l.raw, time.Minute)
	<-done
	return r.Settle(&l.attempt, time.Now())
}

// read is the offer, and the bytes that it came in.
func read(t *testing.T, c *sock.Conn) (*wire.HandoffOffer, []byte) {
	var came bytes.Buffer
	f, _, err := frame.Read(io.TeeReader(c, &came), frame.MaxBody)
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	offer, err := frame.ParseHandoffOffer(f)
	if err != nil {
		t.Error(err)
	}
	return offer, came.Bytes()
}

func answer(t *testing.T, c *sock.Conn, detail string) {
	ack := &wire.HandoffAck{Token: testToken, CorrelationId: 1, Accepted: detail == "", ErrorDetail: detail}
	if _, err := frame.Write(c, frame.HandoffAck(ack)); err != nil {
		t.Error(err)
	}
}

// alone is nil where nobody but the broker has the connection: once that closes it, the client
// reads its end.
func (l *v1Line) alone() error {
	_ = l.conn.Close()
	_ = l.client.SetDeadline(time.Now().Add(10 * time.Second))
	if n, err := l.client.Read(make([]byte, 1)); err != io.EOF {
		return fmt.Errorf("somebody has it still: %d, %w", n, err)
	}
	return nil
}

// TestV1Windows compares the bytes of an offer with those of the vector, but for the handle's
// value, and adopts.
func TestV1Windows(t *testing.T) {
	var v struct {
		Vectors []struct{ Name, Hex string }
	}
	testutil.Vectors(t, "framed.json", &v)
	var want []byte
	for _, vector := range v.Vectors {
		if vector.Name == "handoff_offer_windows" {
			want = testutil.Hex(t, vector.Hex)
		}
	}
	if want == nil {
		t.Fatal("no such vector")
	}
	l := newV1Line(t)
	out := l.exchange(t, "demo-svc", func(c *sock.Conn) {
		offer, came := read(t, c)
		f, _, err := frame.Read(bytes.NewReader(want), frame.MaxBody)
		if err != nil {
			t.Fatal(err)
		}
		model, err := frame.ParseHandoffOffer(f)
		if err != nil {
			t.Fatal(err)
		}
		model.HandleValue, model.Token = offer.HandleValue, testToken
		if expected, err := frame.Append(nil, frame.HandoffOffer(model)); err != nil || !bytes.Equal(came, expected) {
			t.Errorf("the backend saw\n%x, want\n%x, %v", came, expected, err)
		}
		fds, err := sock.TakeHandle(c, offer.HandleValue)
		if err != nil {
			t.Error(err)
			return
		}
		conn := fds.TakeConn(0)
		if _, err := conn.Write([]byte("hello")); err != nil {
			t.Error(err)
		}
		_ = conn.Close()
		answer(t, c, "")
	})
	if out.Verdict != handoff.Adopted || out.Err != nil || out.LeakedBackendHandle != 0 || !out.FDReachedBackend {
		t.Errorf("got %+v", out)
	}
	hello := make([]byte, 5)
	if _, err := io.ReadFull(l.client, hello); err != nil || string(hello) != "hello" {
		t.Errorf("the backend had another connection: %q, %v", hello, err)
	}
}

// TestV1LeftInTheBackend: a handle that the backend was told of is its own to close, whatever
// became of the offer.
func TestV1LeftInTheBackend(t *testing.T) {
	for name, c := range map[string]struct {
		act     func(t *testing.T, c *sock.Conn)
		verdict handoff.Verdict
	}{
		"rejected":            {func(t *testing.T, c *sock.Conn) { answer(t, c, "no") }, handoff.NotTaken},
		"gone":                {func(*testing.T, *sock.Conn) {}, handoff.Unknown},
		"answered by another": {func(t *testing.T, c *sock.Conn) { _, _ = c.Write([]byte("nonsense")) }, handoff.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			l := newV1Line(t)
			var offer *wire.HandoffOffer
			var taken sock.Descriptors
			out := l.exchange(t, "demo-svc", func(conn *sock.Conn) {
				if offer, _ = read(t, conn); offer != nil {
					var err error
					if taken, err = sock.TakeHandle(conn, offer.HandleValue); err != nil {
						t.Error(err)
					}
				}
				c.act(t, conn)
			})
			if out.Verdict != c.verdict || out.Stage != handoff.StageAwaitAck || out.Reason != handoff.BackendAckTimeout ||
				!out.FDReachedBackend || offer == nil || out.LeakedBackendHandle != offer.HandleValue {
				t.Errorf("got %+v, offer %v", out, offer)
			}
			if err := taken.CheckConnection(0); err != nil {
				t.Errorf("the broker closed it: %v", err)
			}
			taken.Close()
			if err := l.alone(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestV1TakenBack: of an offer that was not written whole nothing stays in the backend.
func TestV1TakenBack(t *testing.T) {
	l := newV1Line(t)
	long := strings.Repeat("s", 4<<20) // more than a pipe holds
	out := l.exchange(t, long, func(c *sock.Conn) {
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Error(err)
		}
	})
	if out.Verdict != handoff.NotTaken || out.Relinquish() || out.Stage != handoff.StageDeliver || out.Reason != handoff.BackendAckTimeout ||
		out.FDReachedBackend || out.LeakedBackendHandle != 0 {
		t.Errorf("got %+v", out)
	}
	if err := l.alone(); err != nil {
		t.Error(err)
	}
}

// TestV1NotTransferred: the stages before the backend has anything (spec 02 §11).
func TestV1NotTransferred(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(l *v1Line)
		class handoff.SendClass
	}{
		"no endpoint":   {func(l *v1Line) { _ = l.backend.Close() }, handoff.SendBackendUnavailable},
		"other process": {func(l *v1Line) { l.PID++ }, handoff.SendPermissionDenied},
		"no process":    {func(l *v1Line) { l.PID = 0 }, handoff.SendCannotOpenBackend},
		"no connection": {func(l *v1Line) { _ = l.conn.Close() }, handoff.SendFailed},
	} {
		t.Run(name, func(t *testing.T) {
			l := newV1Line(t)
			c.spoil(l)
			d, err := l.send(t.Context(), handoff.Token{1}, handoff.Offer{Service: "demo-svc"}, l.raw)
			var send *handoff.SendError
			if d != nil || !errors.As(err, &send) {
				t.Fatalf("got %v, %v", d, err)
			}
			out := l.attempt.SendFailed(err)
			if send.Stage != handoff.StageTransfer || send.Class != c.class || out.Verdict != handoff.NotTaken || out.FDReachedBackend || out.LeakedBackendHandle != 0 {
				t.Errorf("got %+v, %+v", send, out)
			}
			if err := l.alone(); err != nil {
				t.Error(err)
			}
		})
	}
}

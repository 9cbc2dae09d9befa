package backend_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"
	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// behindFirst is a client's end that reads the first bytes, those of the broker or of an
// inline answer, by itself.
type behindFirst struct {
	*net.UnixConn
	first string // what is still to come of them
}

func (c *behindFirst) Read(p []byte) (int, error) {
	for c.first != "" {
		part := make([]byte, len(c.first))
		n, err := c.UnixConn.Read(part)
		if !bytes.HasPrefix([]byte(c.first), part[:n]) {
			return 0, errors.New("first bytes are " + string(part[:n]))
		}
		if c.first = c.first[n:]; err != nil {
			return 0, err
		}
	}
	return c.UnixConn.Read(p)
}

// answerPing answers what begins with "ping" inline.
func answerPing(o *backend.Options) {
	o.Inline = func(answer, request []byte) ([]byte, bool) {
		return append(answer, "pong"...), bytes.HasPrefix(request, []byte("ping"))
	}
}

// states are the states in which an application can get a connection. Each makes one:
// what is at the client's end, and what Accept returns.
var states = map[string]struct {
	change func(*backend.Options)
	open   func(t *testing.T, w session, ln *backend.Listener) (net.Conn, net.Conn)
}{
	"dialled": {nil, func(t *testing.T, _ session, ln *backend.Listener) (net.Conn, net.Conn) {
		return dialPipe(t, ln.Addr().String()), accept(t, ln)
	}},
	"dialled, seen by Inline": {answerPing, func(t *testing.T, _ session, ln *backend.Listener) (net.Conn, net.Conn) {
		c := dialPipe(t, ln.Addr().String())
		send(t, c, "else")
		s := accept(t, ln)
		wantBytes(t, s, "else")
		return c, s
	}},
	"dialled, answered inline": {answerPing, func(t *testing.T, _ session, ln *backend.Listener) (net.Conn, net.Conn) {
		c := dialPipe(t, ln.Addr().String())
		send(t, c, "ping")
		wantBytes(t, c, "pong")
		send(t, c, "else")
		s := accept(t, ln)
		wantBytes(t, s, "else")
		return c, s
	}},
	"dialled, judged a lookalike": {nil, func(t *testing.T, _ session, ln *backend.Listener) (net.Conn, net.Conn) {
		c := dialPipe(t, ln.Addr().String())
		send(t, c, "\x01else")
		s := accept(t, ln)
		wantBytes(t, s, "\x01else")
		return c, s
	}},
	"handed over":                   {nil, offered("", "", "")},
	"handed over, early data":       {nil, offered(earlyBytes, "", earlyBytes)},
	"early data, seen by Inline":    {answerPing, offered(earlyBytes, "", earlyBytes)},
	"early data, answered inline":   {answerPing, offered("ping", "pong", "")},
	"handed over, seen by Inline":   {answerPing, offered("", "", "late")},
	"handed over, partly read held": {nil, offered(earlyBytes, "", earlyBytes[:1])},
}

// offered hands a connection over with early data, has the client read answer behind
// the broker's bytes, and the backend read want.
func offered(early, answer, want string) func(*testing.T, session, *backend.Listener) (net.Conn, net.Conn) {
	return func(t *testing.T, w session, ln *backend.Listener) (net.Conn, net.Conn) {
		l := newLoad(t)
		send(t, l.client, early)
		w.offer(t, offer(1, func(o *wire.Offer) { o.EarlyDataLen = uint32(len(early)) }), l.conn, l.claimFD())
		if ack := w.ack(t); !ack.Accepted {
			t.Fatalf("answer %v", ack)
		}
		l.drop()
		switch {
		case answer != "": // and more, or nobody gets it
			send(t, l.client, "more")
			want = "more"
		case early == "":
			send(t, l.client, want)
		}
		s := accept(t, ln)
		wantBytes(t, s, want)
		if len(want) < len(early) {
			wantBytes(t, s, early[len(want):])
		}
		return &behindFirst{l.client, preamble + answer}, s
	}
}

func openState(t *testing.T, name string) (net.Conn, net.Conn) {
	t.Helper()
	s := states[name]
	p := newPlace(t)
	wires := fakeBroker(t, p)
	var change []func(*backend.Options)
	if s.change != nil {
		change = append(change, s.change)
	}
	ln := listen(t, p, change...)
	c, b := s.open(t, next(t, wires), ln)
	_ = c.SetDeadline(time.Time{})
	_ = b.SetDeadline(time.Time{})
	return c, b
}

// TestConnContract holds what Accept returns, in every state, and as either end,
// against what every net.Conn must do.
func TestConnContract(t *testing.T) {
	for name := range states {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
				c, s := openState(t, name)
				return s, c, func() { _ = c.Close(); _ = s.Close() }, nil
			})
			nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
				c, s := openState(t, name)
				if c, ok := c.(*behindFirst); ok { // a client that closes with something unread resets the connection
					wantBytes(t, c.UnixConn, c.first)
					c.first = ""
				}
				return c, s, func() { _ = c.Close(); _ = s.Close() }, nil
			})
		})
	}
}

// owing is a connection whose client has sent early data and waits for the reply. The
// listener is too busy to write it, until the test ends.
func owing(t *testing.T) (*load, *backend.Conn) {
	t.Helper()
	p := newPlace(t)
	wires := fakeBroker(t, p)
	reading, queued, hold := make(chan struct{}), make(chan struct{}), make(chan struct{})
	ln := listen(t, p, func(o *backend.Options) {
		o.Inline = func(answer, request []byte) ([]byte, bool) {
			if string(request) == "busy" {
				<-hold
				return answer, false
			}
			close(reading)
			<-queued
			return answer, false
		}
	})
	t.Cleanup(func() { close(hold) })
	w := next(t, wires)
	l := newLoad(t)
	send(t, l.client, earlyBytes)
	w.offer(t, offer(1, declared), l.conn, l.claimFD())
	<-reading
	send(t, dialPipe(t, ln.Addr().String()), "busy") // what the loop does next
	close(queued)
	s := accept(t, ln)
	_ = w.ack(t)
	l.drop()
	return l, s
}

// TestNothingWaitsForAWrite: while the first Write behind early data waits for a client
// that doesn't read, everything else on the connection returns, and Close ends it.
func TestNothingWaitsForAWrite(t *testing.T) {
	for name, act := range map[string]func(*backend.Conn) error{
		"SetDeadline":      func(c *backend.Conn) error { return c.SetDeadline(time.Now().Add(time.Hour)) },
		"SetReadDeadline":  func(c *backend.Conn) error { return c.SetReadDeadline(time.Now().Add(time.Hour)) },
		"SetWriteDeadline": func(c *backend.Conn) error { return c.SetWriteDeadline(time.Now().Add(time.Hour)) },
		"SyscallConn": func(c *backend.Conn) error {
			raw, err := c.SyscallConn()
			return errors.Join(err, raw.Control(func(uintptr) {}))
		},
		"CloseRead":  func(c *backend.Conn) error { return c.CloseRead() },
		"CloseWrite": func(c *backend.Conn) error { return c.CloseWrite() },
		"Close":      func(c *backend.Conn) error { return c.Close() },
		"addresses":  func(c *backend.Conn) error { _, _ = c.LocalAddr(), c.RemoteAddr(); return nil },
		"Client":     func(c *backend.Conn) error { _ = c.Client(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			l, c := owing(t)
			wrote := make(chan error, 1)
			go func() { _, err := c.Write(make([]byte, 8<<20)); wrote <- err }()
			testutil.WaitFor(t, "the Write has begun", func() bool { return pending(t, l) > 0 })
			acted := make(chan error, 1)
			go func() { acted <- act(c) }()
			select {
			case err := <-acted:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(patience / 2):
				t.Error("waits for the Write")
			}
			wantBytes(t, l.client, preamble)
			_ = c.Close()
			if err := <-wrote; err == nil {
				t.Error("8 MiB were written to who doesn't read")
			}
		})
	}
}

// TestOwedReplyIsFirst: whatever the application does first, the reply comes first.
func TestOwedReplyIsFirst(t *testing.T) {
	for name, act := range map[string]func(c *backend.Conn) error{
		"writes at once": func(c *backend.Conn) error {
			errs := make(chan error)
			for range 8 {
				go func() { _, err := c.Write([]byte("x")); errs <- err }()
			}
			var err error
			for range 8 {
				err = errors.Join(err, <-errs)
			}
			return err
		},
		"after a past deadline": func(c *backend.Conn) error {
			_ = c.SetWriteDeadline(time.Unix(1, 0))
			if n, err := c.Write([]byte("lost")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				return errors.Join(errors.New("no deadline"), err)
			}
			_ = c.SetWriteDeadline(time.Time{})
			_, err := c.Write([]byte("xxxxxxxx"))
			return err
		},
		"raw": func(c *backend.Conn) error {
			raw, err := c.SyscallConn()
			if err != nil {
				return err
			}
			return errors.Join(err, raw.Write(func(fd uintptr) bool {
				_, err = unix.Write(int(fd), []byte("xxxxxxxx"))
				return err != unix.EAGAIN
			}), err)
		},
		"half-close": func(c *backend.Conn) error {
			_, err := c.Write([]byte("xxxxxxxx"))
			return errors.Join(err, c.CloseWrite())
		},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			l, c := owing(t)
			if err := act(c); err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
			if got, err := io.ReadAll(l.client); string(got) != preamble+"xxxxxxxx" || err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the client reads %q, %v", got, err)
			}
		})
	}
}

// TestHeldBytesAndDeadline: bytes that came along with Hello wait beside the socket, and
// heed the read deadline and Close as those in it do.
func TestHeldBytesAndDeadline(t *testing.T) {
	for name, early := range map[string]string{"handed over": earlyBytes, "judged": ""} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			var s *backend.Conn
			want := "arly"
			if early == "" {
				c, b := connected(t)
				want = "\x00\x00\x00" // the rest of what might become a probe
				send(t, c, "\x01\x32"+want)
				wantBytes(t, b, "\x01\x32")
				s = b
			} else {
				_, s = owing(t)
				wantBytes(t, s, "e")
			}
			_ = s.SetReadDeadline(time.Unix(1, 0))
			if n, err := s.Read(make([]byte, 10)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("past the deadline: %d bytes, %v", n, err)
			}
			_ = s.SetReadDeadline(time.Now().Add(patience))
			wantBytes(t, s, want[:2])
			_ = s.Close()
			if n, err := s.Read(make([]byte, 10)); n != 0 || !errors.Is(err, net.ErrClosed) {
				t.Errorf("closed: %d bytes, %v", n, err)
			}
		})
	}
}

// TestConnMethods: a Conn offers what a net.Conn and a Unix connection do, and who is at
// the other end; nothing of what it is made of.
func TestConnMethods(t *testing.T) {
	want := []string{
		"Client", "Close", "CloseRead", "CloseWrite", "HandedOver", "LocalAddr", "Read", "RemoteAddr",
		"SetDeadline", "SetReadDeadline", "SetWriteDeadline", "SyscallConn", "Write",
	}
	var got []string
	for m := range reflect.TypeFor[*backend.Conn]().Methods() {
		got = append(got, m.Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("methods %v; want %v", got, want)
	}
	for f := range reflect.TypeFor[backend.Conn]().Fields() {
		if f.IsExported() {
			t.Errorf("field %s is exported", f.Name)
		}
	}
}

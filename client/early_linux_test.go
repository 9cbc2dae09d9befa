package client_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// early reads what a client sent behind its Hello.
func early(c net.Conn, size int) string {
	buf := make([]byte, size)
	_, _ = io.ReadFull(c, buf)
	return string(buf)
}

// TestFirstRequest goes along with Hello at every size, on every route, through a
// real broker to a real backend, and arrives whole.
func TestFirstRequest(t *testing.T) {
	testutil.Leaks(t)
	socket, ln := real(t)
	go serveLengths(ln)
	for _, size := range []int{0, 1, 2, 100, 4096, client.MaxEarlyData - 1, client.MaxEarlyData, client.MaxEarlyData + 1, 300_000} {
		for _, noHandoff := range []bool{false, true} {
			c, err := client.DialWith(bounded(t), options(socket, func(o *client.Options) { o.NoHandoff = noHandoff }), bytes.Repeat([]byte("x"), size))
			if err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
			_ = c.SetDeadline(time.Now().Add(patience))
			if err := c.CloseWrite(); err != nil {
				t.Errorf("%d bytes: half-close: %v", size, err)
			}
			got, err := io.ReadAll(c)
			if want := fmt.Sprint(size); string(got) != want || err != nil {
				t.Errorf("%d bytes, NoHandoff %v: the backend counted %q, %v", size, noHandoff, got, err)
			}
			if handed := c.Route() == client.HandedOver; handed == noHandoff {
				t.Errorf("route %s", c.Route())
			}
			_ = c.Close()
		}
	}
}

// serveLengths answers each connection with how many bytes came on it.
func serveLengths(ln *backend.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			n, _ := io.Copy(io.Discard, c)
			_, _ = fmt.Fprint(c, n)
			_ = c.Close()
		}()
	}
}

// TestVerdictInPieces: reply, ready event and answer arrive split at every byte.
func TestVerdictInPieces(t *testing.T) {
	testutil.Leaks(t)
	f := frame.Request(frame.Control, 1, nil)
	whole := append(framed(grant(f, hello.Grant{BackendPipe: "/x", Token: token})), framed(frame.HandoffReady(token, 1))...)
	whole = append(whole, "answer"...)
	var cut atomic.Int64
	socket := fakeBroker(t, func(c *net.UnixConn, _ *wire.Frame) {
		if early(c, 7) != "request" {
			return
		}
		at := int(cut.Load())
		_, _ = c.Write(whole[:at])
		_, _ = c.Write(whole[at:])
	})
	for at := range len(whole) + 1 {
		cut.Store(int64(at))
		c, err := client.DialWith(bounded(t), options(socket), []byte("request"))
		if err != nil {
			t.Fatalf("cut at %d: %v", at, err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		if got, err := io.ReadAll(c); string(got) != "answer" || err != nil {
			t.Fatalf("cut at %d: read %q, %v", at, got, err)
		}
		_ = c.Close()
	}
}

// TestEarlyVerdicts follows the replay rules: again only after an explicit "not
// adopted".
func TestEarlyVerdicts(t *testing.T) {
	testutil.Leaks(t)
	pipe := fake(t, func(c *net.UnixConn) { _, _ = fmt.Fprint(c, "pipe got "+early(c, 7)) })
	tests := []struct {
		name       string
		answer     func(c *net.UnixConn, f *wire.Frame)
		idempotent bool
		want       string // of the answer; empty for an error
		is         error
		asked      int32
	}{
		{"not adopted", func(c *net.UnixConn, f *wire.Frame) { write(c, grant(f, hello.Grant{BackendPipe: pipe})) },
			false, "pipe got request", nil, 1},
		{"refused", func(c *net.UnixConn, f *wire.Frame) {
			write(c, hello.ReplyFrame(f, hello.BelowMinVersion().Reply()))
		},
			false, "", new(client.RefusedError), 1},
		{"end", func(c *net.UnixConn, _ *wire.Frame) { early(c, 7) }, false, "", client.ErrOutcomeUnknown, 1},
		{"reset", func(*net.UnixConn, *wire.Frame) {}, false, "", client.ErrOutcomeUnknown, 1},
		{"half a reply", func(c *net.UnixConn, f *wire.Frame) {
			early(c, 7)
			_, _ = c.Write(framed(grant(f, hello.Grant{BackendPipe: pipe}))[:9])
		}, false, "", client.ErrOutcomeUnknown, 1},
		{"token without ready", func(c *net.UnixConn, f *wire.Frame) {
			early(c, 7)
			write(c, grant(f, hello.Grant{BackendPipe: pipe, Token: token}))
		}, false, "", client.ErrOutcomeUnknown, 1},
		{"garbage for ready", func(c *net.UnixConn, f *wire.Frame) {
			early(c, 7)
			write(c, grant(f, hello.Grant{BackendPipe: pipe, Token: token}), f)
		}, false, "", client.ErrOutcomeUnknown, 1},
		{"silence", func(c *net.UnixConn, _ *wire.Frame) { early(c, 8) }, false, "", client.ErrOutcomeUnknown, 1},
		{"end, idempotent", func(c *net.UnixConn, _ *wire.Frame) { early(c, 7) }, true, "", client.ErrOutcomeUnknown, 3},
		{"garbage", func(c *net.UnixConn, _ *wire.Frame) { early(c, 7); _, _ = c.Write([]byte{9}) }, false, "", client.ErrOutcomeUnknown, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var asked atomic.Int32
			socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
				asked.Add(1)
				test.answer(c, f)
			})
			timeout := func(o *client.Options) { o.Timeout, o.Idempotent = patience, test.idempotent }
			if test.name == "silence" {
				timeout = func(o *client.Options) { o.Timeout = time.Second }
			}
			c, err := client.DialWith(bounded(t), options(socket, timeout), []byte("request"))
			if test.is != nil {
				var refused *client.RefusedError
				right := errors.Is(err, test.is)
				if test.name == "refused" {
					right = errors.As(err, &refused) && !errors.Is(err, client.ErrOutcomeUnknown)
				}
				if !right {
					t.Errorf("error %v, want %v", err, test.is)
				}
			} else if err != nil {
				t.Fatal(err)
			} else {
				_ = c.SetDeadline(time.Now().Add(patience))
				if got, err := io.ReadAll(c); string(got) != test.want || err != nil {
					t.Errorf("read %q, %v", got, err)
				}
				_ = c.Close()
			}
			if asked.Load() != test.asked {
				t.Errorf("asked %d times, want %d", asked.Load(), test.asked)
			}
		})
	}
}

// TestFirstWriteRides: where a broker is known to be usher, the first Write goes
// along with Hello by itself; a longer one, or a Read, sends Hello alone.
func TestFirstWriteRides(t *testing.T) {
	testutil.Leaks(t)
	var announced atomic.Int64
	socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
		h := new(wire.Hello)
		_ = frame.Unmarshal(f.Payload, h)
		announced.Store(int64(h.EarlyDataLen))
		write(c, grant(f, hello.Grant{BackendPipe: "/x", Token: token, ServerCapabilities: frame.CapUsher}), frame.HandoffReady(token, 1))
		_, _ = io.WriteString(c, "hi ")
		_, _ = io.Copy(c, c)
	})
	d := &client.Dialer{Options: options(socket)}
	dialAgain(t, d) // learns what kind of broker it is
	for _, size := range []int{1, 7, client.MaxEarlyData, client.MaxEarlyData + 1} {
		c := dialAgain(t, d)
		if c.Route() != "" {
			t.Fatalf("asked before the first Write: %s", c.Route())
		}
		sent := strings.Repeat("y", size)
		if n, err := io.WriteString(c, sent); n != size || err != nil {
			t.Fatal(n, err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); string(got) != "hi "+sent || err != nil {
			t.Errorf("%d bytes: read %d, %v", size, len(got), err)
		}
		want := int64(size)
		if size > client.MaxEarlyData {
			want = 0
		}
		if announced.Load() != want || c.Route() != client.HandedOver {
			t.Errorf("%d bytes: %d announced, route %s", size, announced.Load(), c.Route())
		}
	}
	c := dialAgain(t, d)
	if got := early(c, 3); got != "hi " || announced.Load() != 0 {
		t.Errorf("read first: %q, %d announced", got, announced.Load())
	}
}

// TestLazyErrors: what Dial would have said comes from the first Write or Read.
func TestLazyErrors(t *testing.T) {
	testutil.Leaks(t)
	var refuse atomic.Bool
	socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
		if refuse.Load() {
			write(c, hello.ReplyFrame(f, hello.BelowMinVersion().Reply()))
			return
		}
		write(c, grant(f, hello.Grant{BackendPipe: "/x", Token: token, ServerCapabilities: frame.CapUsher}), frame.HandoffReady(token, 1))
	})
	d := &client.Dialer{Options: options(socket)}
	dialAgain(t, d)
	refuse.Store(true)
	c := dialAgain(t, d)
	var refused *client.RefusedError
	if _, err := c.Read(make([]byte, 1)); !errors.As(err, &refused) || errors.Is(err, client.ErrOutcomeUnknown) {
		t.Errorf("read: %v", err)
	}
	if _, err := c.Write([]byte("x")); !errors.As(err, &refused) {
		t.Errorf("write after it: %v", err)
	}
}

// TestLazyWaits: a Read that waits for the first Write ends with a deadline, and
// with Close.
func TestLazyWaits(t *testing.T) {
	testutil.Leaks(t)
	socket := handingUsher(t)
	dial := client.HTTP(options(socket))
	first, err := dial(bounded(t), "", "")
	if err != nil {
		t.Fatal(err)
	}
	_ = first.Close()
	for name, end := range map[string]func(net.Conn) error{
		"deadline": func(c net.Conn) error { return c.SetReadDeadline(time.Now()) },
		"close":    net.Conn.Close,
	} {
		c, err := dial(bounded(t), "", "")
		if err != nil {
			t.Fatal(err)
		}
		read := make(chan error)
		go func() { _, err := c.Read(make([]byte, 1)); read <- err }()
		if err := end(c); err != nil {
			t.Error(name, err)
		}
		var timeout net.Error
		if err := <-read; !errors.Is(err, net.ErrClosed) && !(errors.As(err, &timeout) && timeout.Timeout()) {
			t.Errorf("%s: %v", name, err)
		}
		_ = c.Close()
	}
}

func handingUsher(t *testing.T) string {
	return fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
		write(c, grant(f, hello.Grant{BackendPipe: "/x", Token: token, ServerCapabilities: frame.CapUsher}), frame.HandoffReady(token, 1))
		hold(c)
	})
}

// TestHTTPRides: http.Transport starts to read before it writes, and its request
// goes along with Hello all the same.
func TestHTTPRides(t *testing.T) {
	testutil.Leaks(t)
	socket, ln := real(t)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	defer func() { _ = server.Close(); <-served }()
	transport := &http.Transport{DialContext: client.HTTP(options(socket)), DisableKeepAlives: true}
	for n, size := range []int{3, 3, 100, 50_000, 3} {
		body := strings.Repeat("z", size)
		resp, err := (&http.Client{Transport: transport}).Post("http://x/", "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(n, err)
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if string(got) != body || err != nil {
			t.Errorf("request %d: %d bytes, %v", n, len(got), err)
		}
	}
}

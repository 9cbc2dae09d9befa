package client_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// handing is a broker that hands every connection over to serve.
func handing(t testing.TB, serve func(c *net.UnixConn)) (socket string) {
	t.Helper()
	return fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
		write(c, grant(f, hello.Grant{BackendPipe: "/x", Token: token}), frame.HandoffReady(token, 1))
		serve(c)
	})
}

// TestOutcome: the connection's failure is an unknown outcome exactly when a
// request may have been run and no answer has begun.
func TestOutcome(t *testing.T) {
	// The backend reads a request, or leaves it unread, and goes.
	took := func(c *net.UnixConn) { _, _ = io.ReadFull(c, make([]byte, 7)) }
	left := func(c *net.UnixConn) { _, _ = io.ReadFull(c, make([]byte, 1)) }
	answers := func(c *net.UnixConn) { took(c); send(t, c, "an") }
	request := func(t *testing.T, c *client.Conn) { send(t, c, "request") }
	tests := []struct {
		name    string
		backend func(*net.UnixConn)
		client  func(*testing.T, *client.Conn)
		unknown bool
		cause   error
	}{
		{"end of stream", took, request, true, io.EOF},
		{"reset", left, request, true, syscall.ECONNRESET},
		{"timeout", hold2, func(t *testing.T, c *client.Conn) {
			request(t, c)
			_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
		}, true, os.ErrDeadlineExceeded},
		{"own close", hold2, func(t *testing.T, c *client.Conn) { request(t, c); _ = c.Close() }, true, net.ErrClosed},

		{"nothing sent", func(*net.UnixConn) {}, func(*testing.T, *client.Conn) {}, false, io.EOF},
		{"an empty write", func(*net.UnixConn) {}, func(_ *testing.T, c *client.Conn) { _, _ = c.Write(nil) }, false, io.EOF},
		{"timeout, nothing sent", hold, func(_ *testing.T, c *client.Conn) {
			_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
		}, false, os.ErrDeadlineExceeded},
		{"answer begun", answers, func(t *testing.T, c *client.Conn) {
			request(t, c)
			_, _ = io.ReadFull(c, make([]byte, 2))
		}, false, io.EOF},

		{"end after CloseWrite", took, func(t *testing.T, c *client.Conn) { request(t, c); _ = c.CloseWrite() }, false, io.EOF},
		{"reset after CloseWrite", left, func(t *testing.T, c *client.Conn) { request(t, c); _ = c.CloseWrite() }, true, syscall.ECONNRESET},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			testutil.Leaks(t)
			c := mustDial(t, options(handing(t, test.backend)))
			test.client(t, c)
			n, err := c.Read(make([]byte, 1))
			if n != 0 || !errors.Is(err, test.cause) {
				t.Fatalf("read %d, %v; want %v", n, err, test.cause)
			}
			var outcome *client.OutcomeError
			if got := errors.Is(err, client.ErrOutcomeUnknown); got != test.unknown || got != errors.As(err, &outcome) {
				t.Fatalf("unknown %v, want %v: %v", got, test.unknown, err)
			}
			if !test.unknown {
				if test.cause == io.EOF && err != io.EOF {
					t.Errorf("end of stream is %v", err)
				}
				return
			}
			var netErr net.Error
			timeout := test.cause == os.ErrDeadlineExceeded
			if !errors.As(err, &netErr) || netErr.Timeout() != timeout || outcome.Timeout() != timeout {
				t.Errorf("as a net.Error: %v", netErr)
			}
			if !strings.Contains(err.Error(), "idempotent") {
				t.Errorf("text %q does not say what to do", err)
			}
		})
	}
}

// hold2 reads a request and waits for the client to go.
func hold2(c *net.UnixConn) {
	_, _ = io.ReadFull(c, make([]byte, 7))
	hold(c)
}

// TestOutcomeTimeoutIsNotFinal: the answer may still come.
func TestOutcomeTimeoutIsNotFinal(t *testing.T) {
	testutil.Leaks(t)
	late := make(chan struct{})
	c := mustDial(t, options(handing(t, func(c *net.UnixConn) {
		<-late
		_, _ = io.WriteString(c, "answer")
	})))
	send(t, c, "request")
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, client.ErrOutcomeUnknown) {
		t.Fatal(err)
	}
	close(late)
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if got, err := io.ReadAll(c); string(got) != "answer" || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %q, %v", got, err)
	}
}

// TestOutcomeOfWrite: a write that fails after bytes went out is unknown, the
// first one is not.
func TestOutcomeOfWrite(t *testing.T) {
	testutil.Leaks(t)
	c := mustDial(t, options(handing(t, func(*net.UnixConn) {})))
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) || errors.Is(err, client.ErrOutcomeUnknown) {
		t.Errorf("first write: %v", err)
	}

	done := make(chan struct{})
	defer close(done)
	c = mustDial(t, options(handing(t, func(*net.UnixConn) { <-done })))
	inTime(t, func(deadline time.Duration) bool {
		_ = c.SetWriteDeadline(time.Now().Add(deadline))
		n, err := c.Write(make([]byte, 8<<20))
		if n > 0 && !errors.Is(err, client.ErrOutcomeUnknown) || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("half a write: %d, %v", n, err)
		}
		return n > 0
	})
}

// TestOutcomeRace: a backend may take a request and die before the Write that
// sent it has returned; a Read in another goroutine knows all the same.
func TestOutcomeRace(t *testing.T) {
	testutil.Leaks(t)
	socket := handing(t, func(c *net.UnixConn) { _, _ = io.ReadFull(c, make([]byte, 7)) })
	d := &client.Dialer{Options: options(socket)}
	for range 200 {
		c := dialAgain(t, d)
		got := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 1))
			got <- err
		}()
		send(t, c, "request")
		if err := <-got; !errors.Is(err, client.ErrOutcomeUnknown) {
			t.Fatalf("read %v", err)
		}
		_ = c.Close()
	}
}

// TestHTTPOutcome: http.Transport lets the unknown outcome through, and does not
// send a POST again.
func TestHTTPOutcome(t *testing.T) {
	testutil.Leaks(t)
	var requests atomic.Int32
	socket := handing(t, func(c *net.UnixConn) {
		if n, _ := c.Read(make([]byte, 4096)); n > 0 {
			requests.Add(1)
		}
	})
	transport := &http.Transport{DialContext: client.HTTP(options(socket))}
	defer transport.CloseIdleConnections()
	_, err := (&http.Client{Transport: transport}).Post("http://notes/", "text/plain", strings.NewReader("once"))
	var urlErr *url.Error
	if !errors.As(err, &urlErr) || !errors.Is(err, client.ErrOutcomeUnknown) {
		t.Errorf("post: %v", err)
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("the backend saw %d requests", n)
	}
}

func send(t testing.TB, w io.Writer, data string) {
	t.Helper()
	if _, err := io.WriteString(w, data); err != nil {
		t.Error(err)
	}
}

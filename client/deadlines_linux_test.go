package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
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

// moment is a deadline that passes while a test waits for it.
const moment = 20 * time.Millisecond

// slowBroker answers what comes behind the Hellos of known clients: half of the
// verdict at once, the rest after release, and then it echoes.
func slowBroker(t testing.TB) (d *client.Dialer, release chan struct{}) {
	t.Helper()
	release = make(chan struct{})
	d = usherThen(t, func(c *net.UnixConn, f *wire.Frame) {
		verdict := handedOver(f)
		_, _ = c.Write(verdict[:9])
		<-release
		_, _ = c.Write(verdict[9:])
		_, _ = io.Copy(c, c)
	})
	return d, release
}

// TestDeadlineBeforeVerdict: a deadline of the caller ends that call, promptly, and
// spoils nothing: the same call goes through once the verdict is there.
func TestDeadlineBeforeVerdict(t *testing.T) {
	type call func(c *client.Conn) (int, error)
	write := func(c *client.Conn) (int, error) { return io.WriteString(c, " and more") }
	read := func(c *client.Conn) (int, error) { return c.Read(make([]byte, 1)) }
	tests := []struct {
		name  string
		first string // is written before
		call  call
		set   func(*client.Conn, time.Time) error
		echo  string // follows
	}{
		{"read", "request", read, (*client.Conn).SetReadDeadline, "equest"},
		{"read first", "", func(c *client.Conn) (int, error) { return c.Read(nil) }, (*client.Conn).SetReadDeadline, ""},
		{"write", "request", write, (*client.Conn).SetWriteDeadline, "request and more"},
		{"long write first", "", func(c *client.Conn) (int, error) { return c.Write(make([]byte, client.MaxEarlyData+1)) },
			(*client.Conn).SetWriteDeadline, string(make([]byte, client.MaxEarlyData+1))},
		{"CloseWrite first", "", func(c *client.Conn) (int, error) { return 0, c.CloseWrite() }, (*client.Conn).SetWriteDeadline, ""},
	}
	for _, test := range tests {
		for _, during := range []bool{false, true} {
			t.Run(test.name+map[bool]string{false: "/set before", true: "/set during"}[during], func(t *testing.T) {
				testutil.Leaks(t)
				d, release := slowBroker(t)
				c := dialAgain(t, d)
				if test.first != "" {
					send(t, c, test.first)
				}
				if during {
					time.AfterFunc(moment, func() { _ = test.set(c, time.Now()) })
				} else {
					_ = test.set(c, time.Now().Add(moment))
				}
				began := time.Now()
				n, err := test.call(c)
				if wantTimeout(t, "the verdict is outstanding", err); n != 0 || errors.Is(err, client.ErrNoAnswer) {
					t.Errorf("%d bytes, %v", n, err)
				}
				if took := time.Since(began); took > patience/2 {
					t.Errorf("took %v", took)
				}
				close(release)
				_ = test.set(c, time.Now().Add(patience))
				if _, err := test.call(c); err != nil {
					t.Fatalf("with a later deadline: %v", err)
				}
				if c.Route() != client.HandedOver {
					t.Errorf("route %q", c.Route())
				}
				if got := early(c, len(test.echo)); got != test.echo {
					t.Errorf("then read %d bytes: %.20q", len(got), got)
				}
			})
		}
	}
}

// TestOtherDirectionsDeadline: while a Read waits for the verdict, a Write waits
// for its own deadline alone, and the other way round.
func TestOtherDirectionsDeadline(t *testing.T) {
	testutil.Leaks(t)
	d, release := slowBroker(t)
	c := dialAgain(t, d)
	send(t, c, "request")
	read := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(c, make([]byte, len("request")))
		read <- err
	}()
	for range 3 {
		_ = c.SetWriteDeadline(time.Now().Add(moment))
		_, err := c.Write([]byte("x"))
		wantTimeout(t, "write", err)
	}
	select {
	case err := <-read:
		t.Error("the read ended with the write:", err)
	default:
	}
	close(release)
	if err := <-read; err != nil {
		t.Error(err)
	}
}

// TestNewDeadlineReachesWhoWaits: for the turn, and for the time to ask again.
func TestNewDeadlineReachesWhoWaits(t *testing.T) {
	testutil.Leaks(t)
	asked := make(chan struct{}, 1)
	silent := usherThen(t, func(c *net.UnixConn, _ *wire.Frame) { asked <- struct{}{}; hold(c) })
	busy := usherThen(t, func(c *net.UnixConn, f *wire.Frame) { write(c, busyFor(f, patience/3)); asked <- struct{}{} })
	for name, d := range map[string]*client.Dialer{"turn": silent, "time to ask again": busy} {
		c := dialAgain(t, d)
		_ = c.SetDeadline(time.Time{})
		send(t, c, "request")
		ended := make(chan error, 2)
		go func() { _, err := c.Read(make([]byte, 1)); ended <- err }()
		<-asked
		if name == "turn" {
			go func() { _, err := io.WriteString(c, "more"); ended <- err }()
		}
		time.Sleep(moment) // so that it waits; if it doesn't yet, it finds the deadline
		began := time.Now()
		if name == "turn" {
			_ = c.SetWriteDeadline(began)
		} else {
			_ = c.SetReadDeadline(began)
		}
		wantTimeout(t, name, <-ended)
		if took := time.Since(began); took > patience/4 {
			t.Errorf("%s: took %v", name, took)
		}
		_ = c.Close()
		if name == "turn" {
			<-ended
		}
	}
}

// TestNoDeadlineStays: what bounded the way to the connection does not bound the
// connection.
func TestNoDeadlineStays(t *testing.T) {
	testutil.Leaks(t)
	speak := make(chan struct{})
	socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
		time.Sleep(moment) // longer than a client waits in the kernel
		handOver(c, f)
		<-speak
		_, _ = io.WriteString(c, "x")
	})
	c := dialOutlasted(t, socket, []byte("request"))
	read := make(chan error, 1)
	go func() { _, err := c.Read(make([]byte, 1)); read <- err }()
	time.Sleep(moment) // so that the read waits
	close(speak)
	if err := <-read; err != nil {
		t.Error(err)
	}
	if _, err := c.Write([]byte("x")); err != nil && !errors.Is(err, syscall.EPIPE) {
		t.Error(err)
	}
}

// dialOutlasted dials, and returns when the deadline and the timeout that bounded that are over.
func dialOutlasted(t *testing.T, socket string, request []byte) (c *client.Conn) {
	t.Helper()
	inTime(t, func(enough time.Duration) bool {
		enough *= 10
		ctx, cancel := context.WithTimeout(t.Context(), enough)
		defer cancel()
		var err error
		c, err = client.DialWith(ctx, options(socket, func(o *client.Options) { o.Timeout = enough }), request)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		<-ctx.Done()
		return err == nil
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestNoDeadlineStaysOfLongRequest: nor does what bounded its writing.
func TestNoDeadlineStaysOfLongRequest(t *testing.T) {
	testutil.Leaks(t)
	const size = 4 << 20
	socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
		handOver(c, f)
		time.Sleep(moment) // so that the client waits for room
		_, _ = io.CopyN(io.Discard, c, size+1)
	})
	c := dialOutlasted(t, socket, make([]byte, size))
	if _, err := c.Write([]byte("x")); err != nil {
		t.Error(err)
	}
}

// TestPastDeadlineAsksNobody: a call that is late already sends nothing.
func TestPastDeadlineAsksNobody(t *testing.T) {
	testutil.Leaks(t)
	d := usherThen(t, func(c *net.UnixConn, f *wire.Frame) { t.Error("asked"); handOver(c, f) })
	c := dialAgain(t, d)
	_ = c.SetDeadline(time.Now())
	_, err := c.Read(make([]byte, 1))
	wantTimeout(t, "read", err)
	_, err = c.Write([]byte("x"))
	wantTimeout(t, "write", err)
	wantTimeout(t, "CloseWrite", c.CloseWrite())
}

// TestWriteDeadlineWhileDialling: a full backlog is waited for until the caller's
// deadline; nothing has been sent then, and the same Write goes along later.
func TestWriteDeadlineWhileDialling(t *testing.T) {
	testutil.Leaks(t)
	d, ln := fullBroker(t)
	c := dialAgain(t, d)
	for range 2 {
		_ = c.SetWriteDeadline(time.Now().Add(moment))
		n, err := io.WriteString(c, "request")
		if wantTimeout(t, "write", err); n != 0 || errors.Is(err, client.ErrOutcomeUnknown) {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
	serveAll(t, ln, func(c *net.UnixConn, f *wire.Frame) {
		handOver(c, f)
		_, _ = io.Copy(c, c)
	})
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	send(t, c, "request")
	if got := early(c, 7); got != "request" {
		t.Errorf("read %q", got)
	}
}

// TestTimedOutWriteIsNotSent: a Write that returned a timeout and 0 bytes leaves
// nothing behind that a later Read would send.
func TestTimedOutWriteIsNotSent(t *testing.T) {
	testutil.Leaks(t)
	d, ln := fullBroker(t)
	c := dialAgain(t, d)
	_ = c.SetWriteDeadline(time.Now().Add(moment))
	n, err := io.WriteString(c, "request")
	if wantTimeout(t, "write", err); n != 0 {
		t.Errorf("%d bytes", n)
	}
	acceptAll(t, ln, func(c *net.UnixConn) {
		f, _, err := frame.Read(c, frame.MaxHelloBody)
		if err != nil {
			return
		}
		h := new(wire.Hello)
		if err := frame.Unmarshal(f.Payload, h); err != nil || h.EarlyDataLen != 0 {
			t.Errorf("%d early bytes, %v", h.EarlyDataLen, err)
		}
		handOver(c, f)
		_, _ = io.WriteString(c, "x")
		hold(c)
	})
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

// TestCloseBeforeVerdict ends every call under way, whatever it waits for.
func TestCloseBeforeVerdict(t *testing.T) {
	testutil.Leaks(t)
	stuck, _ := fullBacklog(t)
	nothing := func(c *net.UnixConn, _ *wire.Frame) { hold(c) }
	toStuck := func(c *net.UnixConn, f *wire.Frame) { write(c, grant(f, hello.Grant{BackendPipe: stuck})) }
	busy := func(c *net.UnixConn, f *wire.Frame) {
		write(c, hello.ReplyFrame(f, (&hello.Refusal{Code: wire.ErrorCode_ERROR_RATE_LIMITED, RetryAfter: patience / 3}).Reply()))
	}
	read := func(c *client.Conn) error { _, err := c.Read(make([]byte, 1)); return err }
	long := func(c *client.Conn) error { _, err := c.Write(make([]byte, client.MaxEarlyData+1)); return err }
	for name, answer := range map[string]func(*net.UnixConn, *wire.Frame){"reply": nothing, "pipe with a full backlog": toStuck, "time to ask again": busy} {
		for what, call := range map[string]func(*client.Conn) error{"read": read, "long write": long, "CloseWrite": (*client.Conn).CloseWrite} {
			t.Run(name+"/"+what, func(t *testing.T) {
				c := dialAgain(t, usherThen(t, answer))
				closes(t, c, call)
			})
		}
	}
	t.Run("broker with a full backlog", func(t *testing.T) {
		d, _ := fullBroker(t)
		c := dialAgain(t, d)
		closes(t, c, func(c *client.Conn) error { _, err := io.WriteString(c, "request"); return err })
	})
}

// closes has Close end two calls at once.
func closes(t *testing.T, c *client.Conn, call func(*client.Conn) error) {
	t.Helper()
	ended := make(chan error, 2)
	for range cap(ended) {
		go func() { ended <- call(c) }()
	}
	time.Sleep(moment) // so that they wait; if they don't yet, Close has less to end
	began := time.Now()
	if err := c.Close(); err != nil {
		t.Error("close:", err)
	}
	for range cap(ended) {
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("ended with %v", err)
		}
	}
	if took := time.Since(began); took > patience/4 {
		t.Errorf("took %v", took)
	}
	if err := c.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	_, err := c.Read(make([]byte, 1))
	var shape *net.OpError
	if !errors.Is(err, net.ErrClosed) || !errors.As(err, &shape) {
		t.Errorf("read after it: %v", err)
	}
	if err := c.SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("deadline after it: %v", err)
	}
}

// TestTimeoutEnds: Options.Timeout ends the connection. The call that waited is told
// so; those that come later learn that it has ended, not that they were late, so
// that nobody polls for ever.
func TestTimeoutEnds(t *testing.T) {
	for name, first := range map[string]string{"hello alone": "", "early data": "request"} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			d := usherThen(t, func(c *net.UnixConn, _ *wire.Frame) { hold(c) })
			var c *client.Conn
			inTime(t, func(deadline time.Duration) bool {
				d.Timeout = deadline
				c = dialAgain(t, d)
				if first == "" {
					return true
				}
				_, err := io.WriteString(c, first)
				return err == nil
			})
			unknown := first != ""
			_, err := c.Read(make([]byte, 1))
			wantTimeout(t, "read", err)
			if errors.Is(err, client.ErrOutcomeUnknown) != unknown || errors.Is(err, client.ErrNoAnswer) == unknown {
				t.Errorf("read: %v", err)
			}
			for range 3 {
				_, err := c.Read(make([]byte, 1))
				var timeout net.Error
				if err == nil || errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, client.ErrOutcomeUnknown) != unknown {
					t.Fatalf("later read: %v", err)
				}
			}
			if _, err := c.Write([]byte("x")); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("later write: %v", err)
			}
		})
	}
}

// TestVerdictInTimeButReadLate: what has arrived within the Timeout counts, also
// when the application comes for it later.
func TestVerdictInTimeButReadLate(t *testing.T) {
	testutil.Leaks(t)
	answered := make(chan struct{}, 1)
	d := usherThen(t, func(c *net.UnixConn, f *wire.Frame) {
		handOver(c, f)
		answered <- struct{}{}
		_, _ = io.Copy(c, c)
	}, func(o *client.Options) { o.ReadyTimeout = time.Millisecond })
	var c *client.Conn
	inTime(t, func(deadline time.Duration) bool {
		d.Timeout = deadline
		began := time.Now()
		c = dialAgain(t, d)
		if _, err := io.WriteString(c, "request"); err != nil {
			return false
		}
		<-answered
		answeredInTime := time.Since(began) < deadline
		time.Sleep(2 * deadline) // Timeout passes
		return answeredInTime
	})
	if got := early(c, 7); got != "request" {
		t.Errorf("read %q", got)
	}
}

// TestDialWithLongRequest: ctx and Timeout bound what does not go along with Hello
// too. What has left then may have been run.
func TestDialWithLongRequest(t *testing.T) {
	testutil.Leaks(t)
	gone := make(chan struct{})
	var begun atomic.Bool
	socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
		handOver(c, f)
		if _, err := c.Read(make([]byte, 1)); err == nil {
			begun.Store(true)
		}
		<-gone
	})
	defer close(gone)
	request := make([]byte, 8<<20)
	ends := map[string]func(after time.Duration) (context.Context, time.Duration, error){
		"deadline": func(after time.Duration) (context.Context, time.Duration, error) {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			t.Cleanup(cancel)
			return ctx, 0, context.DeadlineExceeded
		},
		"cancelled": func(after time.Duration) (context.Context, time.Duration, error) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(after, cancel)
			return ctx, 0, context.Canceled
		},
		"timeout": func(after time.Duration) (context.Context, time.Duration, error) {
			return t.Context(), after, os.ErrDeadlineExceeded
		},
	}
	for name, end := range ends {
		inTime(t, func(deadline time.Duration) bool {
			begun.Store(false)
			ctx, timeout, want := end(deadline)
			began := time.Now()
			c, err := client.DialWith(ctx, options(socket, func(o *client.Options) { o.Timeout = timeout }), request)
			if c != nil || !errors.Is(err, want) {
				t.Errorf("%s: %v, %v", name, c, err)
			}
			if took := time.Since(began); took > deadline+patience/2 {
				t.Errorf("%s: took %v", name, took)
			}
			if !errors.Is(err, client.ErrOutcomeUnknown) {
				if begun.Load() {
					t.Errorf("%s: begun, and %v", name, err)
				}
				return false
			}
			if errors.Is(err, client.ErrNoAnswer) {
				t.Errorf("%s: %v", name, err)
			}
			return true
		})
	}
}

// TestNoAnswerIsATimeout for whoever asks.
func TestNoAnswerIsATimeout(t *testing.T) {
	testutil.Leaks(t)
	silent := fakeBroker(t, func(c *net.UnixConn, _ *wire.Frame) { hold(c) })
	_, err := client.Dial(t.Context(), options(silent, func(o *client.Options) { o.Timeout = moment }))
	for _, err := range []error{client.ErrNoAnswer, err} {
		wantTimeout(t, "no answer", err)
		if !errors.Is(err, client.ErrNoAnswer) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	}
}

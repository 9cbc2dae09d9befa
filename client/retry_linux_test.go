package client_test

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestRefusalIsWaitedOut: what passes by itself is asked for again, with the early
// data, which nobody has read.
func TestRefusalIsWaitedOut(t *testing.T) {
	tests := []struct {
		code  wire.ErrorCode
		after time.Duration
		waits bool
	}{
		{wire.ErrorCode_ERROR_RATE_LIMITED, time.Millisecond, true},
		{wire.ErrorCode_ERROR_RATE_LIMITED, 0, false},
		{wire.ErrorCode_ERROR_RATE_LIMITED, math.MaxInt64, false},
		{wire.ErrorCode_ERROR_FD_PRESSURE, time.Millisecond, true},
		{wire.ErrorCode_ERROR_SHUTTING_DOWN, 0, true},
		{wire.ErrorCode_ERROR_SHUTTING_DOWN, time.Hour, true},
		{wire.ErrorCode_ERROR_BACKEND_SPAWN_FAILED, time.Millisecond, true},
		{wire.ErrorCode_ERROR_BACKEND_SPAWN_FAILED, 0, false},
		{wire.ErrorCode_ERROR_VERSION_BLOCKED, time.Millisecond, false},
		{wire.ErrorCode_ERROR_SERVICE_UNKNOWN, time.Millisecond, false},
		{wire.ErrorCode_ERROR_INTERNAL, time.Millisecond, false},
	}
	for _, test := range tests {
		t.Run(test.code.String()+" "+test.after.String(), func(t *testing.T) {
			testutil.Leaks(t)
			var asked atomic.Int32
			socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
				if asked.Add(1) <= 5 {
					write(c, refusal(f, test.code, test.after))
					return
				}
				handOver(c, f)
				_, _ = io.Copy(c, c)
			})
			c, err := client.DialWith(bounded(t), options(socket), []byte("request"))
			if !test.waits {
				var refused *client.RefusedError
				if !errors.As(err, &refused) || asked.Load() != 1 {
					t.Errorf("asked %d times: %v", asked.Load(), err)
				}
				return
			}
			if err != nil {
				t.Fatalf("asked %d times: %v", asked.Load(), err)
			}
			defer func() { _ = c.Close() }()
			_ = c.SetDeadline(time.Now().Add(patience))
			if got := early(c, 7); got != "request" || asked.Load() != 6 {
				t.Errorf("asked %d times, read %q", asked.Load(), got)
			}
		})
	}
}

// TestRefusalIsReportedInTime: the last refusal is the answer, at the latest when
// the time is over, and soon when it would help nobody to wait.
func TestRefusalIsReportedInTime(t *testing.T) {
	testutil.Leaks(t)
	var asked atomic.Int32
	var code atomic.Int32
	var after atomic.Int64
	read := make(chan struct{}, 1)
	socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
		asked.Add(1)
		write(c, refusal(f, wire.ErrorCode(code.Load()), time.Duration(after.Load())))
		hold(c)
		select {
		case read <- struct{}{}:
		default:
		}
	})
	dial := func(ctx context.Context, timeout time.Duration) (time.Duration, error) {
		asked.Store(0)
		began := time.Now()
		_, err := client.DialWith(ctx, options(socket, func(o *client.Options) { o.Timeout = timeout }), []byte("request"))
		return time.Since(began), err
	}
	check := func(err error) {
		t.Helper()
		var refused *client.RefusedError
		if !errors.As(err, &refused) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, client.ErrOutcomeUnknown) {
			t.Errorf("got %v", err)
		}
	}
	code.Store(int32(wire.ErrorCode_ERROR_RATE_LIMITED))
	after.Store(int64(moment))
	inTime(t, func(deadline time.Duration) bool {
		took, err := dial(t.Context(), deadline)
		if took > deadline+patience/2 {
			t.Errorf("asked %d times in %v", asked.Load(), took)
		}
		if asked.Load() < 2 {
			return false
		}
		check(err)
		return true
	})
	after.Store(int64(time.Hour))
	took, err := dial(t.Context(), time.Minute)
	if asked.Load() != 1 || took > patience/2 {
		t.Errorf("a pause beyond the time: asked %d times in %v", asked.Load(), took)
	}
	check(err)
	ctx, cancel := context.WithCancel(t.Context())
	for len(read) > 0 {
		<-read
	}
	go func() { <-read; cancel() }() // while it waits to ask again
	after.Store(int64(patience))
	if took, err := dial(ctx, time.Minute); !errors.Is(err, context.Canceled) || errors.Is(err, client.ErrOutcomeUnknown) || took > patience/2 {
		t.Errorf("cancelled: %v after %v", err, took)
	}
	code.Store(int32(wire.ErrorCode_ERROR_BACKEND_SPAWN_FAILED))
	after.Store(int64(time.Second))
	took, err = dial(t.Context(), patience)
	if asked.Load() < 2 || took > patience/2 {
		t.Errorf("without a backend: asked %d times in %v", asked.Load(), took)
	}
	check(err)
}

// TestGrantEndsRefusal: once the broker has named a backend, what is reported is that
// this one does not answer.
func TestGrantEndsRefusal(t *testing.T) {
	testutil.Leaks(t)
	stuck, _ := fullBacklog(t)
	var asked atomic.Int32
	socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
		if asked.Add(1) == 1 {
			write(c, busyFor(f, time.Millisecond))
			return
		}
		write(c, grant(f, hello.Grant{BackendPipe: stuck}))
	})
	inTime(t, func(deadline time.Duration) bool {
		asked.Store(0)
		_, err := client.Dial(t.Context(), options(socket, func(o *client.Options) { o.Timeout = deadline }))
		var refused *client.RefusedError
		return asked.Load() > 1 && errors.Is(err, client.ErrNoAnswer) && !errors.As(err, &refused)
	})
}

// TestNextBrokerIsWaitedFor: a broker that shuts down takes its name away first;
// the next one is asked when it is there, and nobody waits long for one that does
// not come.
func TestNextBrokerIsWaitedFor(t *testing.T) {
	testutil.Leaks(t)
	path := testutil.SocketPath(t)
	listen := func() *net.UnixListener {
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Error(err)
		}
		return ln
	}
	for _, successor := range []bool{true, false} {
		gone := make(chan struct{})
		old := listen()
		serveAll(t, old, func(c *net.UnixConn, f *wire.Frame) {
			_ = old.Close()
			write(c, refusal(f, wire.ErrorCode_ERROR_SHUTTING_DOWN, 0))
			close(gone)
		})
		if successor {
			go func() {
				<-gone
				time.Sleep(moment) // the gap between the two
				serveAll(t, listen(), func(c *net.UnixConn, f *wire.Frame) { handOver(c, f); hold(c) })
			}()
		}
		began := time.Now()
		c, err := client.Dial(bounded(t), options(path))
		if took := time.Since(began); took > patience/2 {
			t.Errorf("took %v", took)
		}
		if successor {
			if err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
			_ = os.Remove(path)
			continue
		}
		var refused *client.RefusedError
		if !errors.As(err, &refused) || refused.Code != client.CodeShuttingDown || !errors.Is(err, client.ErrBrokerUnreachable) {
			t.Error(err)
		}
	}
}

// TestSuccessorOfAKilledBrokerIsWaitedFor: the socket of one that was killed is there, and
// nobody listens, until the next one does.
func TestSuccessorOfAKilledBrokerIsWaitedFor(t *testing.T) {
	testutil.Leaks(t)
	path := testutil.SocketPath(t)
	killed, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	killed.SetUnlinkOnClose(false)
	_ = killed.Close()
	go func() {
		time.Sleep(moment)
		_ = os.Remove(path)
		time.Sleep(moment)
		next, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Error(err)
			return
		}
		serveAll(t, next, func(c *net.UnixConn, f *wire.Frame) { handOver(c, f); hold(c) })
	}()
	c, err := client.DialWith(bounded(t), options(path), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

// TestManyAtOnce: what one process starts at once is served, later where the broker
// wants it later.
func TestManyAtOnce(t *testing.T) {
	testutil.Leaks(t)
	many := 1000
	if testing.Short() || testutil.Race {
		many = 300
	}
	socket, ln := real(t)
	go serveLengths(ln)
	var failed atomic.Int32
	var wg sync.WaitGroup
	began := time.Now()
	for range many {
		wg.Go(func() {
			c, err := client.Dial(t.Context(), options(socket, func(o *client.Options) { o.Timeout = 2 * patience }))
			if err != nil {
				if failed.Add(1) <= 3 {
					t.Error(err)
				}
				return
			}
			_ = c.Close()
		})
	}
	wg.Wait()
	if n := failed.Load(); n > 0 {
		t.Errorf("%d of %d failed", n, many)
	}
	t.Logf("%d in %v", many, time.Since(began))
}

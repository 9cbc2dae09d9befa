package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestContextNeverHidesARun: whenever the caller's context ends, an error that says
// that nothing was sent belongs to a request that was not run.
func TestContextNeverHidesARun(t *testing.T) {
	testutil.Leaks(t)
	const workers, calls = 4, 1000
	socket, ln := real(t, func(o *broker.Options) { o.HelloRate, o.MaxHandshakesPerPeer = 1<<20, 1<<10 })
	var ran sync.Map
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer func() { _ = c.Close() }()
				if id := early(c, 8); id[7] != 0 {
					ran.Store(id, true)
					_, _ = io.WriteString(c, id)
				}
			})
		}
	})
	var notRun sync.Map
	var unknown, connected atomic.Int32
	var calling sync.WaitGroup
	for w := range workers {
		calling.Go(func() {
			for n := range calls {
				id := fmt.Sprintf("%02d-%05d", w, n)
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.Int64N(int64(1500*time.Microsecond))))
				c, err := client.DialWith(ctx, options(socket), []byte(id))
				cancel()
				switch {
				case errors.Is(err, client.ErrOutcomeUnknown):
					unknown.Add(1)
				case err != nil:
					notRun.Store(id, err)
				default:
					connected.Add(1)
					_ = c.SetDeadline(time.Now().Add(patience))
					if got := early(c, 8); got != id {
						t.Errorf("a connection that was returned answers %q", got)
					}
					_ = c.Close()
				}
			}
		})
	}
	calling.Wait()
	_ = ln.Close()
	serving.Wait()
	lies, honest := 0, 0
	notRun.Range(func(id, err any) bool {
		if honest++; didRun(&ran, id) {
			if lies++; lies <= 3 {
				t.Errorf("request %s ran: %v", id, err)
			}
		}
		return true
	})
	t.Logf("%d connected, %d unknown, %d not run, of which %d ran", connected.Load(), unknown.Load(), honest, lies)
}

func didRun(ran *sync.Map, id any) bool {
	_, found := ran.Load(id)
	return found
}

// TestContextEndsWithVerdict: the context ends when the verdict is there already.
// The connection is returned, and no deadline of the call stays with it.
func TestContextEndsWithVerdict(t *testing.T) {
	testutil.Leaks(t)
	var end atomic.Pointer[context.CancelFunc]
	socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
		cancel := *end.Load() // this client's; the next one may be there when the verdict has gone
		early(c, 7)
		time.Sleep(moment) // so that the client waits with its context at hand
		verdict := append(handedOver(f), "answer"...)
		_, _ = c.Write(verdict)
		cancel()
		hold(c)
	})
	for range 50 {
		ctx, cancel := context.WithCancel(context.Background())
		end.Store(&cancel)
		c, err := client.DialWith(ctx, options(socket), []byte("request"))
		switch {
		case err == nil:
			if got := early(c, 6); got != "answer" {
				t.Errorf("read %q", got)
			}
			_ = c.Close()
		case !errors.Is(err, client.ErrOutcomeUnknown):
			t.Error(err)
		}
		cancel()
	}
}

// TestHalfCloseBeforeVerdict: CloseWrite behind early data holds on whatever
// connection the request ends: the backend there reads it, and then the end.
func TestHalfCloseBeforeVerdict(t *testing.T) {
	wholeRequest := func(c net.Conn) {
		got, err := io.ReadAll(c)
		_, _ = fmt.Fprintf(c, "%s, %v", got, err)
	}
	pipe := fake(t, func(c *net.UnixConn) { wholeRequest(c) })
	var asked atomic.Int32
	answers := map[string]func(c *net.UnixConn, f *wire.Frame){
		"handed over": func(c *net.UnixConn, f *wire.Frame) { handOver(c, f); wholeRequest(c) },
		"reconnected": func(c *net.UnixConn, f *wire.Frame) {
			_, _ = io.ReadAll(c) // CloseWrite has come
			write(c, grant(f, hello.Grant{BackendPipe: pipe}))
		},
		"repeated, handed over": func(c *net.UnixConn, f *wire.Frame) {
			if asked.Add(1) == 1 {
				_, _ = io.ReadAll(c)
				return
			}
			handOver(c, f)
			wholeRequest(c)
		},
		"repeated, reconnected": func(c *net.UnixConn, f *wire.Frame) {
			_, _ = io.ReadAll(c)
			if asked.Add(1) > 1 {
				write(c, grant(f, hello.Grant{BackendPipe: pipe}))
			}
		},
		"refused for a moment": func(c *net.UnixConn, f *wire.Frame) {
			if asked.Add(1) == 1 {
				_, _ = io.ReadAll(c)
				write(c, busyFor(f, time.Millisecond))
				return
			}
			handOver(c, f)
			wholeRequest(c)
		},
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			asked.Store(0)
			c := dialAgain(t, usherThen(t, answer, func(o *client.Options) { o.Idempotent = true }))
			send(t, c, "request")
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			_ = c.SetReadDeadline(time.Now().Add(patience / 4))
			if got, err := io.ReadAll(c); string(got) != "request, <nil>" || err != nil {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}

func busyFor(f *wire.Frame, d time.Duration) *wire.Frame {
	return refusal(f, wire.ErrorCode_ERROR_RATE_LIMITED, d)
}

func refusal(f *wire.Frame, code wire.ErrorCode, d time.Duration) *wire.Frame {
	return hello.ReplyFrame(f, (&hello.Refusal{Code: code, Reason: "because", RetryAfter: d}).Reply())
}

// TestNoRepetitionAfterDeadline: an idempotent request is sent again for a caller
// who still waits, and for no other.
func TestNoRepetitionAfterDeadline(t *testing.T) {
	for _, name := range []string{"read deadline", "timeout"} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			inTime(t, func(deadline time.Duration) bool { return repeatsNot(t, name, deadline) })
		})
	}
}

// repeatsNot is false where the deadline passed before the request had gone.
func repeatsNot(t *testing.T, name string, deadline time.Duration) bool {
	t.Helper()
	var asked atomic.Int32
	over, ended := make(chan struct{}), make(chan struct{})
	d := usherThen(t, func(c *net.UnixConn, _ *wire.Frame) {
		if asked.Add(1) > 1 {
			return
		}
		early(c, 7)
		<-over
		_ = c.Close()
		close(ended)
	})
	d.Idempotent = true
	if name == "timeout" {
		d.Timeout = deadline
	}
	c := dialAgain(t, d)
	if _, err := io.WriteString(c, "request"); err != nil {
		close(over)
		return false
	}
	if name != "timeout" {
		_ = c.SetReadDeadline(time.Now().Add(deadline))
	}
	_, err := c.Read(make([]byte, 1))
	if wantTimeout(t, "read", err); !errors.Is(err, client.ErrOutcomeUnknown) {
		t.Error(err)
	}
	close(over)
	<-ended // it is not before this that it could be asked again
	if _, err := c.Read(make([]byte, 1)); err == nil || asked.Load() != 1 {
		t.Errorf("asked %d times: %v", asked.Load(), err)
	}
	_ = c.Close()
	return true
}

// TestCloseDuringRepetition frees who waits for it.
func TestCloseDuringRepetition(t *testing.T) {
	testutil.Leaks(t)
	var asked atomic.Int32
	again := make(chan struct{}, 1)
	d := usherThen(t, func(c *net.UnixConn, _ *wire.Frame) {
		early(c, 7)
		if asked.Add(1) > 1 {
			again <- struct{}{}
			hold(c)
		}
	}, func(o *client.Options) { o.Idempotent, o.Timeout = true, patience })
	c := dialAgain(t, d)
	send(t, c, "request")
	read := make(chan error, 1)
	go func() { _, err := c.Read(make([]byte, 1)); read <- err }()
	<-again
	began := time.Now()
	_ = c.Close()
	if err := <-read; !errors.Is(err, net.ErrClosed) || !errors.Is(err, client.ErrOutcomeUnknown) {
		t.Error(err)
	}
	if took := time.Since(began); took > patience/4 {
		t.Errorf("took %v", took)
	}
}

// TestRefusalAfterUnknown: a refusal does not undo that the first try may have run.
func TestRefusalAfterUnknown(t *testing.T) {
	testutil.Leaks(t)
	stuck, _ := fullBacklog(t)
	var known atomic.Bool
	for name, then := range map[string]func(c *net.UnixConn, f *wire.Frame){
		"pipe with a full backlog": func(c *net.UnixConn, f *wire.Frame) { write(c, grant(f, hello.Grant{BackendPipe: stuck})) },
		"refused": func(c *net.UnixConn, f *wire.Frame) {
			write(c, hello.ReplyFrame(f, hello.BelowMinVersion().Reply()))
		},
		"backend unreachable": func(c *net.UnixConn, f *wire.Frame) { write(c, grant(f, hello.Grant{BackendPipe: "/nowhere"})) },
		"no pipe":             func(c *net.UnixConn, f *wire.Frame) { write(c, grant(f, hello.Grant{})) },
		"silence":             func(c *net.UnixConn, f *wire.Frame) { hold(c) },
	} {
		known.Store(false)
		socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
			early(c, 7)
			if known.Swap(true) {
				then(c, f)
			}
		})
		timeout := patience
		if name == "silence" || name == "pipe with a full backlog" { // it passes
			timeout = time.Second
		}
		opts := options(socket, func(o *client.Options) { o.Idempotent, o.Timeout = true, timeout })
		_, err := client.DialWith(bounded(t), opts, []byte("request"))
		var refused *client.RefusedError
		if !errors.Is(err, client.ErrOutcomeUnknown) || errors.As(err, &refused) != (name == "refused") || errors.Is(err, client.ErrNoAnswer) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDeadlineAfterUnknown: nor does a "not adopted" undo it, for a caller whose time
// is over meanwhile.
func TestDeadlineAfterUnknown(t *testing.T) {
	testutil.Leaks(t)
	stuck, _ := fullBacklog(t)
	for _, idempotent := range []bool{true, false} {
		var asked atomic.Int32
		d := usherThen(t, func(c *net.UnixConn, f *wire.Frame) {
			early(c, 7)
			if asked.Add(1) > 1 {
				write(c, grant(f, hello.Grant{BackendPipe: stuck}))
			}
		}, func(o *client.Options) { o.Idempotent = idempotent })
		if !idempotent {
			asked.Store(1)
		}
		c := dialAgain(t, d)
		send(t, c, "request")
		for asked.Load() < 2 {
			_ = c.SetReadDeadline(time.Now().Add(moment))
			_, _ = c.Read(make([]byte, 1))
		}
		inTime(t, func(deadline time.Duration) bool {
			_ = c.SetReadDeadline(time.Now().Add(10 * deadline)) // for the verdict to be read
			_, err := c.Read(make([]byte, 1))
			wantTimeout(t, "read", err)
			return errors.Is(err, client.ErrOutcomeUnknown) == idempotent
		})
		_ = c.Close()
	}
}

// TestHalfCloseBetweenConnections: CloseWrite comes when the broker's connection is
// gone and the backend's not yet there.
func TestHalfCloseBetweenConnections(t *testing.T) {
	testutil.Leaks(t)
	path, ln := fullBacklog(t)
	answered := make(chan struct{})
	d := usherThen(t, func(c *net.UnixConn, f *wire.Frame) {
		early(c, 7)
		write(c, grant(f, hello.Grant{BackendPipe: path}))
		close(answered)
	})
	c := dialAgain(t, d)
	send(t, c, "request")
	<-answered
	_ = c.SetReadDeadline(time.Now().Add(10 * moment)) // for the verdict to be read
	_, err := c.Read(make([]byte, 1))
	wantTimeout(t, "read", err)
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	acceptAll(t, ln, func(c *net.UnixConn) {
		got, err := io.ReadAll(c)
		_, _ = fmt.Fprintf(c, "%s, %v", got, err)
	})
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if got, err := io.ReadAll(c); string(got) != "request, <nil>" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

// TestTokenWithoutCapability: a reply that names a token is no explicit "not
// adopted", whatever else it lacks; early data is not sent again upon it.
func TestTokenWithoutCapability(t *testing.T) {
	testutil.Leaks(t)
	var second atomic.Bool
	pipe := fake(t, func(c *net.UnixConn) { second.Store(true) })
	socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
		early(c, 7)
		reply := hello.Grant{BackendPipe: pipe}.Reply()
		reply.Negotiated.HandlePassedToken = token
		write(c, hello.ReplyFrame(f, reply))
	})
	c, err := client.DialWith(bounded(t), options(socket), []byte("request"))
	if c != nil || !errors.Is(err, client.ErrOutcomeUnknown) || second.Load() {
		t.Errorf("%v, %v, sent again: %v", c, err, second.Load())
	}
}

// TestEarlyHelloAsksForNoToken: with bit 0 a v1 broker could hand an unread request
// to a backend without a claim. Hello names no pid: the kernel knows it.
func TestEarlyHelloAsksForNoToken(t *testing.T) {
	testutil.Leaks(t)
	hellos := make(chan *wire.Hello, 1)
	socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
		h := new(wire.Hello)
		if err := frame.Unmarshal(f.Payload, h); err != nil {
			t.Error(err)
		}
		hellos <- h
		handOver(c, f)
		hold(c)
	})
	for request, want := range map[string]uint64{"": frame.CapUsher | frame.CapHandlePassing, "request": frame.CapUsher} {
		c, err := client.DialWith(bounded(t), options(socket), []byte(request))
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		if h := <-hellos; h.ClientCapabilities != want || h.EarlyDataLen != uint32(len(request)) || h.PeerPid != 0 {
			t.Errorf("%d early bytes: capabilities %b, want %b; pid %d", h.EarlyDataLen, h.ClientCapabilities, want, h.PeerPid)
		}
	}
}

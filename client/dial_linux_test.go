package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/names"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// converse greets with name and echoes until the client has gone.
func converse(c net.Conn, name string) {
	_, _ = io.WriteString(c, name)
	_, _ = io.Copy(c, c)
}

// wantConversation uses c, with the one who calls itself name.
func wantConversation(t testing.TB, c net.Conn, name string) {
	t.Helper()
	got := make([]byte, len(name))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != name {
		t.Fatalf("read %q, %v; want %q", got, err, name)
	}
	testutil.CheckConnected(t, c, c)
}

// TestRoutes: with a real broker and backend.
func TestRoutes(t *testing.T) {
	testutil.Leaks(t)
	socket, ln := real(t)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer func() { _ = c.Close() }(); converse(c, "backend") }()
		}
	}()
	pipe := ln.Addr().String()
	tests := []struct {
		name   string
		change func(*client.Options)
		want   client.Route
	}{
		{"handed over", func(*client.Options) {}, client.HandedOver},
		{"NoHandoff", func(o *client.Options) { o.NoHandoff = true }, client.Reconnected},
		{"skip", func(o *client.Options) { o.CachedEndpoint, o.OwnVersion = pipe, version }, client.HelloSkipped},
		{"other version of its own", func(o *client.Options) { o.CachedEndpoint, o.OwnVersion = pipe, "1.2.1" }, client.HandedOver},
		{"no version of its own", func(o *client.Options) { o.CachedEndpoint = pipe }, client.HandedOver},
		{"no cached endpoint", func(o *client.Options) { o.OwnVersion = version }, client.HandedOver},
		{"dead cached endpoint", func(o *client.Options) { o.CachedEndpoint, o.OwnVersion = pipe+"x", version }, client.HandedOver},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := mustDial(t, options(socket, test.change))
			if c.Route() != test.want || c.Endpoint() != pipe {
				t.Errorf("route %s to %s, want %s to %s", c.Route(), c.Endpoint(), test.want, pipe)
			}
			if asked := test.want != client.HelloSkipped; asked != (c.ID() != 0) || asked != (c.BackendVersion() == version) {
				t.Errorf("connection %d to version %q", c.ID(), c.BackendVersion())
			}
			wantConversation(t, c, "backend")
		})
	}
}

// TestSkipDoesNotWait: a cached endpoint that takes no connection is no answer;
// the broker is asked at once.
func TestSkipDoesNotWait(t *testing.T) {
	testutil.Leaks(t)
	stuck, _ := fullBacklog(t)
	pipe := named(t, "fresh")
	socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
		write(c, grant(f, hello.Grant{BackendPipe: pipe}))
	})
	c := mustDial(t, options(socket, func(o *client.Options) { o.CachedEndpoint, o.OwnVersion = stuck, version }))
	wantConversation(t, c, "fresh")
}

func write(w io.Writer, frames ...*wire.Frame) { _, _ = w.Write(framed(frames...)) }

func framed(frames ...*wire.Frame) []byte {
	var b []byte
	for _, f := range frames {
		b, _ = frame.Append(b, f)
	}
	return b
}

func grant(request *wire.Frame, g hello.Grant) *wire.Frame {
	g.Version = version
	return hello.ReplyFrame(request, g.Reply())
}

// TestRefusals: every code arrives with its reason and its time.
func TestRefusals(t *testing.T) {
	for code := wire.ErrorCode(0); code.Known(); code++ {
		t.Run(code.String(), func(t *testing.T) {
			testutil.Leaks(t)
			socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
				write(c, hello.ReplyFrame(f, (&hello.Refusal{Code: code, Reason: "because", RetryAfter: 1500 * time.Microsecond}).Reply()))
			})
			var err error
			var refused *client.RefusedError
			inTime(t, func(deadline time.Duration) bool {
				_, err = client.Dial(bounded(t), options(socket, func(o *client.Options) { o.Timeout = deadline }))
				return errors.As(err, &refused)
			})
			want := client.RefusedError{Code: client.Code(code), Reason: "because", RetryAfter: 2 * time.Millisecond}
			if *refused != want || refused.Code.String() != code.String() || !strings.Contains(err.Error(), "because") {
				t.Errorf("%+v (%v), want %+v", refused, err, want)
			}
			if errors.Is(err, client.ErrBrokerUnreachable) || errors.Is(err, client.ErrOutcomeUnknown) {
				t.Errorf("a refusal is classed otherwise: %v", err)
			}
		})
	}
	t.Run("unknown code", func(t *testing.T) {
		socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
			write(c, hello.ReplyFrame(f, (&hello.Refusal{Code: 77}).Reply()))
		})
		_, err := client.Dial(bounded(t), options(socket))
		var refused *client.RefusedError
		if !errors.As(err, &refused) || refused.Code != client.CodeUnspecified || refused.RetryAfter != 0 {
			t.Error(err)
		}
	})
}

// TestRefusedUnread: a broker over its bounds answers and hangs up without
// reading; its answer counts.
func TestRefusedUnread(t *testing.T) {
	testutil.Leaks(t)
	socket := fake(t, func(c *net.UnixConn) {
		write(c, hello.ReplyFrame(nil, (&hello.Refusal{Code: wire.ErrorCode_ERROR_RATE_LIMITED, Reason: "busy"}).Reply()))
	})
	for range 20 {
		_, err := client.Dial(bounded(t), options(socket))
		var refused *client.RefusedError
		if !errors.As(err, &refused) || refused.Code != client.CodeRateLimited {
			t.Fatal(err)
		}
	}
}

func TestUnreachable(t *testing.T) {
	testutil.Leaks(t)
	missing := testutil.SocketPath(t)
	_, err := client.Dial(bounded(t), options(missing))
	if !errors.Is(err, client.ErrBrokerUnreachable) || !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "usher serve") {
		t.Errorf("missing: %v", err)
	}

	dead := testutil.SocketPath(t)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	_ = ln.Close()
	if _, err := client.Dial(bounded(t), options(dead)); !errors.Is(err, client.ErrBrokerUnreachable) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("refused: %v", err)
	}

	var asked atomic.Int32
	socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
		asked.Add(1)
		write(c, grant(f, hello.Grant{BackendPipe: dead}))
	})
	_, err = client.Dial(bounded(t), options(socket))
	if !errors.Is(err, client.ErrBackendUnreachable) || errors.Is(err, client.ErrBrokerUnreachable) || asked.Load() != 3 {
		t.Errorf("backend refused, asked %d times: %v", asked.Load(), err)
	}
}

// TestStartedBrokerDoesNotAnswer: who has a broker of its own started is not told to start
// one by hand.
func TestStartedBrokerDoesNotAnswer(t *testing.T) {
	testutil.Leaks(t)
	opts := options(testutil.SocketPath(t))
	opts.Start = func(context.Context) error { return nil }
	_, err := client.Dial(t.Context(), opts)
	if !errors.Is(err, client.ErrBrokerUnreachable) || strings.Contains(err.Error(), "usher serve") || !strings.Contains(err.Error(), "3 times") {
		t.Errorf("got %v", err)
	}
}

// fullBacklog is a socket where nobody accepts and nobody else fits in.
func fullBacklog(t testing.TB) (path string, ln *net.UnixListener) {
	t.Helper()
	path, ln = shallow(t)
	fill(t, path)
	return path, ln
}

// shallow is a socket with the smallest backlog there is.
func shallow(t testing.TB) (path string, ln *net.UnixListener) {
	t.Helper()
	path = testutil.SocketPath(t)
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), path)
	defer func() { _ = file.Close() }()
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	l, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return path, l.(*net.UnixListener)
}

// fill leaves no room in the backlog at path.
func fill(t testing.TB, path string) {
	t.Helper()
	for {
		c, err := net.Dial("unix", path)
		if errors.Is(err, syscall.EAGAIN) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
}

// TestFullBacklogIsWaitedFor: EAGAIN is not the end, ctx is.
func TestFullBacklogIsWaitedFor(t *testing.T) {
	testutil.Leaks(t)
	path, ln := fullBacklog(t)
	inTime(t, func(deadline time.Duration) bool {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		_, err := client.Dial(ctx, options(path))
		if !errors.Is(err, client.ErrNoAnswer) || errors.Is(err, client.ErrBrokerUnreachable) {
			t.Errorf("until the deadline: %v", err)
		}
		return errors.Is(err, syscall.EAGAIN)
	})
	_, err := client.Dial(context.Background(), options(path, func(o *client.Options) { o.Timeout = 20 * time.Millisecond }))
	if !errors.Is(err, client.ErrNoAnswer) || errors.Is(err, client.ErrBrokerUnreachable) {
		t.Errorf("until the timeout: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(5*time.Millisecond, cancel)
	if _, err := client.Dial(ctx, options(path)); !errors.Is(err, context.Canceled) || errors.Is(err, client.ErrBrokerUnreachable) {
		t.Errorf("until cancelled: %v", err)
	}

	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			write(c, hello.ReplyFrame(nil, (&hello.Refusal{Code: wire.ErrorCode_ERROR_SERVICE_UNKNOWN}).Reply()))
			_ = c.Close()
		}
	}()
	var refused *client.RefusedError
	if _, err := client.Dial(bounded(t), options(path)); !errors.As(err, &refused) {
		t.Errorf("with room again: %v", err)
	}
}

func TestInvalidOptions(t *testing.T) {
	for name, change := range map[string]func(*client.Options){
		"service": func(o *client.Options) { o.Service = "../x" },
		"version": func(o *client.Options) { o.Version = "1" },
	} {
		_, err := client.Dial(bounded(t), options("/nowhere", change))
		var invalid *names.InvalidError
		if !errors.As(err, &invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := client.Dial(bounded(t), options("/nowhere", func(o *client.Options) { o.OwnVersion = strings.Repeat("x", 129) }))
	if err == nil || errors.Is(err, client.ErrBrokerUnreachable) {
		t.Errorf("own version: %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	testutil.Leaks(t)
	pipe := named(t, "x")
	socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) { write(c, grant(f, hello.Grant{BackendPipe: pipe})) })
	silent := fakeBroker(t, func(c *net.UnixConn, _ *wire.Frame) { hold(c) })
	const (
		disable = "RUNNING_PROCESS_DISABLE"
		timeout = "RUNNING_PROCESS_BROKER_CLIENT_TIMEOUT_MS"
		broker  = "RUNNING_PROCESS_BROKER_V1_SOCKET"
	)
	t.Run("disabled", func(t *testing.T) {
		t.Setenv(disable, "1")
		if _, err := client.Dial(bounded(t), options(socket)); !errors.Is(err, client.ErrBrokerDisabled) {
			t.Error(err)
		}
	})
	for _, value := range []string{"", "0", "true", " 1", "1 "} {
		t.Run("neither "+value, func(t *testing.T) {
			t.Setenv(disable, value)
			_, err := client.Dial(bounded(t), options(socket))
			if err == nil || errors.Is(err, client.ErrBrokerDisabled) || !strings.Contains(err.Error(), disable) {
				t.Error(err)
			}
		})
	}
	for _, value := range []string{"30", " 30\n"} {
		t.Run("timeout "+value, func(t *testing.T) {
			t.Setenv(timeout, value)
			_, err := client.Dial(context.Background(), options(silent))
			if !errors.Is(err, client.ErrNoAnswer) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, client.ErrOutcomeUnknown) || !os.IsTimeout(timeoutOf(err)) {
				t.Error(err)
			}
		})
	}
	for _, value := range []string{"0", "-1", "1s", "", "99999999999999999999"} {
		t.Run("no timeout "+value, func(t *testing.T) { // the default: ctx ends first
			t.Setenv(timeout, value)
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(5*time.Millisecond, cancel)
			if _, err := client.Dial(ctx, options(silent)); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	t.Run("socket", func(t *testing.T) {
		t.Setenv(broker, socket)
		wantConversation(t, mustDial(t, options("")), "x")
		if _, err := client.Dial(bounded(t), options(socket+"x")); !errors.Is(err, client.ErrBrokerUnreachable) {
			t.Errorf("Options.Broker goes before the environment: %v", err)
		}
	})
}

// TestContextEndsAtEachStage: promptly, with nothing left, whatever the client
// waits for.
func TestContextEndsAtEachStage(t *testing.T) {
	token := []byte("0123456789abcdef")
	stuck, _ := fullBacklog(t)
	stages := map[string]func(c *net.UnixConn, f *wire.Frame){
		"reply":        func(*net.UnixConn, *wire.Frame) {},
		"half a reply": func(c *net.UnixConn, f *wire.Frame) { _, _ = c.Write(framed(grant(f, hello.Grant{}))[:8]) },
		"ready": func(c *net.UnixConn, f *wire.Frame) {
			write(c, grant(f, hello.Grant{Token: token, BackendPipe: stuck}))
		},
		"backend's queue": func(c *net.UnixConn, f *wire.Frame) { write(c, grant(f, hello.Grant{BackendPipe: stuck})) },
	}
	for name, answer := range stages {
		for _, cancelled := range []bool{true, false} {
			t.Run(map[bool]string{true: "cancelled/", false: "deadline/"}[cancelled]+name, func(t *testing.T) {
				testutil.Leaks(t)
				answered := make(chan struct{}, 1)
				socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
					answer(c, f)
					answered <- struct{}{}
					hold(c)
				})
				ctx, cancel := context.WithCancel(context.Background())
				want := context.Canceled
				if !cancelled {
					ctx, cancel = context.WithTimeout(context.Background(), 20*time.Millisecond)
					want = context.DeadlineExceeded
				} else {
					go func() { <-answered; cancel() }()
				}
				defer cancel()
				begin := time.Now()
				c, err := client.Dial(ctx, options(socket, func(o *client.Options) { o.ReadyTimeout = patience }))
				if c != nil || !errors.Is(err, want) {
					t.Errorf("%v, %v; want %v", c, err, want)
				}
				if cancelled == errors.Is(err, client.ErrNoAnswer) || errors.Is(err, client.ErrBrokerUnreachable) || errors.Is(err, client.ErrBackendUnreachable) {
					t.Errorf("classed as %v", err)
				}
				if took := time.Since(begin); took > patience/2 {
					t.Errorf("took %v", took)
				}
			})
		}
	}
}

// timeoutOf is the net.Error in err.
func timeoutOf(err error) error {
	var netErr net.Error
	if errors.As(err, &netErr) {
		return netErr
	}
	return err
}

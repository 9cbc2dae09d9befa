package backend_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// unregistered waits for a registration that can't come, for a moment, and
// returns the reason.
func unregistered(t *testing.T, ln *backend.Listener) error {
	t.Helper()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		err := ln.WaitRegistered(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("WaitRegistered: %v", err)
		}
		if err.Error() != context.DeadlineExceeded.Error() { // the first attempt is over
			return err
		}
	}
}

// wantRoute dials and uses the connection.
func wantRoute(t *testing.T, p place, ln net.Listener, want client.Route) {
	t.Helper()
	c := dial(t, p)
	if c.Route() != want {
		t.Errorf("route %s, want %s", c.Route(), want)
	}
	s := accept(t, ln)
	testutil.CheckConnected(t, c, s)
	_ = s.Close()
}

// TestBrokerAppears: a backend without a broker serves its pipe, and is taken in
// as soon as there is one.
func TestBrokerAppears(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	p.define(t)
	ln := listen(t, p)
	if err := unregistered(t, ln); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reason %v, want that the socket is missing", err)
	}
	c, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	testutil.CheckConnected(t, c, accept(t, ln))

	startBroker(t, p)
	if err := ln.WaitRegistered(bounded(t)); err != nil {
		t.Fatal(err)
	}
	wantRoute(t, p, ln, client.HandedOver)
}

// TestBrokerRestarts: backends outlive brokers.
func TestBrokerRestarts(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	p.define(t)
	stop := startBroker(t, p)
	ln := listen(t, p)
	for range 2 {
		if err := ln.WaitRegistered(bounded(t)); err != nil {
			t.Fatal(err)
		}
		wantRoute(t, p, ln, client.HandedOver)
		before := dial(t, p)
		stop()
		testutil.WaitFor(t, "the backend knows that its channel ended", func() bool {
			ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
			defer cancel()
			return ln.WaitRegistered(ctx) != nil
		})
		testutil.CheckConnected(t, before, accept(t, ln)) // handed over, so still there
		stop = startBroker(t, p)
	}
}

// TestRefusedThenDefined: the reason is told, and the backend asks again.
func TestRefusedThenDefined(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	startBroker(t, p)
	ln := listen(t, p)
	err := unregistered(t, ln)
	if !errors.Is(err, backend.ErrNotRegistered) || !strings.Contains(err.Error(), "service definition was not found") {
		t.Errorf("reason %v", err)
	}
	p.define(t)
	if err := ln.WaitRegistered(bounded(t)); err != nil {
		t.Fatal(err)
	}
	wantRoute(t, p, ln, client.HandedOver)
}

// TestUnusableBrokers: whatever sits on the broker's socket, the backend serves
// its pipe, says what is wrong and asks again.
func TestUnusableBrokers(t *testing.T) {
	null := devNull(t)
	defer func() { _ = unix.Close(null) }()
	accepted := &wire.Registered{Accepted: true}
	tests := []struct {
		name   string
		answer func(t *testing.T, c *net.UnixConn, f *wire.Frame)
		want   string
	}{
		{"plain v1", func(t *testing.T, c *net.UnixConn, f *wire.Frame) {
			_, refusal := hello.Open(f, 100, nil)
			reply(t, c, hello.ReplyFrame(f, refusal.Reply()))
		}, "Hello frame payload_protocol must be control-plane"},
		{"closes", func(*testing.T, *net.UnixConn, *wire.Frame) {}, "EOF"},
		{"no descriptor", func(t *testing.T, c *net.UnixConn, f *wire.Frame) {
			reply(t, c, frame.Registered(f, accepted))
		}, "0 descriptors, not 1"},
		{"two descriptors", func(t *testing.T, c *net.UnixConn, f *wire.Frame) {
			reply(t, c, frame.Registered(f, accepted), null, null)
		}, "2 descriptors, not 1"},
		{"a file for a channel", func(t *testing.T, c *net.UnixConn, f *wire.Frame) {
			reply(t, c, frame.Registered(f, accepted), null)
		}, "channel ended"},
		{"another kind of channel", func(t *testing.T, c *net.UnixConn, f *wire.Frame) {
			reply(t, c, frame.Registered(f, &wire.Registered{Accepted: true, Channel: 2}), null)
		}, "can't use"},
		{"wrong id", func(t *testing.T, c *net.UnixConn, f *wire.Frame) {
			f.RequestId++
			reply(t, c, frame.Registered(f, accepted), null)
		}, "request_id does not match"},
		{"garbage", func(t *testing.T, c *net.UnixConn, _ *wire.Frame) {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n")
		}, "not a frame"},
		{"grants a Hello nobody said", func(t *testing.T, c *net.UnixConn, f *wire.Frame) {
			reply(t, c, hello.ReplyFrame(f, hello.Grant{BackendPipe: "/x"}.Reply()))
		}, "registration"},
		{"refuses", func(t *testing.T, c *net.UnixConn, f *wire.Frame) {
			reply(t, c, frame.Registered(f, &wire.Registered{Reason: "not today"}))
		}, "not today"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			testutil.Leaks(t)
			p := newPlace(t)
			asked := make(chan struct{}, 100)
			answering(t, p, func(c *net.UnixConn, f *wire.Frame) {
				asked <- struct{}{}
				test.answer(t, c, f)
			})
			ln := listen(t, p)
			if test.want == "channel ended" {
				testutil.WaitFor(t, "the channel's end is known", func() bool {
					ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
					defer cancel()
					err := ln.WaitRegistered(ctx)
					return err != nil && strings.Contains(err.Error(), test.want)
				})
			} else if err := unregistered(t, ln); !strings.Contains(err.Error(), test.want) {
				t.Errorf("reason %q, want %q in it", err, test.want)
			}
			<-asked
			<-asked // and again
			c, err := net.Dial("unix", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			testutil.CheckConnected(t, c, accept(t, ln))
		})
	}
}

// TestSilentBroker: Listen does not wait longer for a broker than its ctx, and
// Close does not wait for a registration under way.
func TestSilentBroker(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	hold := make(chan struct{})
	asked := make(chan struct{}, 100)
	answering(t, p, func(*net.UnixConn, *wire.Frame) {
		asked <- struct{}{}
		<-hold
	})
	defer close(hold)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-asked; cancel() }()
	ln, err := backend.Listen(ctx, backend.Options{Service: service, Version: version, Broker: p.socket(), Pipe: p.pipe("p")})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 3*time.Second/2 { // the registration has 2 s
		t.Errorf("Close took %v", took)
	}
}

func TestListenErrors(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	good := backend.Options{Service: service, Version: version, Broker: p.socket(), Pipe: p.pipe("p")}
	for name, change := range map[string]func(*backend.Options){
		"service":  func(o *backend.Options) { o.Service = "../x" },
		"version":  func(o *backend.Options) { o.Version = "1.2" },
		"pipe":     func(o *backend.Options) { o.Pipe = p.pipe(strings.Repeat("x", 200)) },
		"no UTF-8": func(o *backend.Options) { o.Pipe = p.pipe("\xff") },
		"v1":       func(o *backend.Options) { o.HandoffEndpoint = p.pipe(strings.Repeat("x", 200)) },
		"no place": func(o *backend.Options) { o.Pipe = p.definitions() },
	} {
		opts := good
		change(&opts)
		if ln, err := backend.Listen(bounded(t), opts); err == nil {
			_ = ln.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

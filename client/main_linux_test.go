package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

const (
	service = "notes"
	version = "1.2.0"
	// patience bounds what a test waits for; nothing here takes as long, on a busy machine either.
	patience = 30 * time.Second
)

// inTime calls f with deadlines, each longer than the one before, until it says that one was
// long enough for what had to happen before it: a busy machine needs more than a moment.
func inTime(t testing.TB, f func(deadline time.Duration) bool) {
	t.Helper()
	for d := moment; !f(d); d *= 4 {
		if d > patience {
			t.Fatal("no deadline is long enough")
		}
	}
}

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// options ask the broker at socket.
func options(socket string, change ...func(*client.Options)) client.Options {
	o := client.Options{Service: service, Version: version, Broker: socket}
	for _, f := range change {
		f(&o)
	}
	return o
}

// mustDial dials and bounds the connection.
func mustDial(t testing.TB, o client.Options) *client.Conn {
	t.Helper()
	return dialAgain(t, &client.Dialer{Options: o})
}

// dialAgain is mustDial of a Dialer.
func dialAgain(t testing.TB, d *client.Dialer) *client.Conn {
	t.Helper()
	c, err := d.Dial(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// real starts a broker and a backend behind it.
func real(t testing.TB, change ...func(*broker.Options)) (socket string, ln *backend.Listener) {
	t.Helper()
	dir := testutil.SocketDir(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	definition := fmt.Sprintf("binary_path = %q\n", exe)
	if err := os.WriteFile(filepath.Join(dir, service+".toml"), []byte(definition), 0o600); err != nil {
		t.Fatal(err)
	}
	opts := broker.Options{
		Socket: filepath.Join(dir, "b"), DefinitionDir: dir, DefinitionSource: "test", Logger: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&opts)
	}
	b, err := broker.Listen(opts)
	if err != nil {
		t.Fatal(err)
	}
	testutil.Background(t, b.Serve)
	ln, err = backend.Listen(bounded(t), backend.Options{
		Service: service, Version: version, Broker: b.Socket(), Pipe: filepath.Join(dir, "p"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	if err := ln.WaitRegistered(bounded(t)); err != nil {
		t.Fatal(err)
	}
	return b.Socket(), ln
}

// fake listens at a path of its own and gives every connection to serve, in its
// own goroutine, closing it afterwards. All have ended when the test has.
func fake(t testing.TB, serve func(c *net.UnixConn)) (path string) {
	t.Helper()
	path = testutil.SocketPath(t)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	acceptAll(t, ln, func(c *net.UnixConn) {
		_ = c.SetDeadline(time.Now().Add(patience))
		serve(c)
	})
	return path
}

// fakeBroker reads the Hello and hands the connection to answer.
func fakeBroker(t testing.TB, answer func(c *net.UnixConn, hello *wire.Frame)) (path string) {
	t.Helper()
	return fake(t, func(c *net.UnixConn) {
		f, _, err := frame.Read(c, frame.MaxHelloBody)
		if err != nil {
			return // a client that gave up
		}
		answer(c, f)
	})
}

// named is a backend that says its name first and then echoes.
func named(t testing.TB, name string) (path string) {
	t.Helper()
	return fake(t, func(c *net.UnixConn) { converse(c, name) })
}

// hold keeps c open until the client has gone.
func hold(c *net.UnixConn) { _, _ = io.Copy(io.Discard, c) }

// usherThen returns a Dialer whose broker has answered as usher before, so that Dial
// does not ask; from then on the broker does what answer does.
func usherThen(t testing.TB, answer func(c *net.UnixConn, hello *wire.Frame), change ...func(*client.Options)) *client.Dialer {
	t.Helper()
	var known atomic.Bool
	socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
		if known.Load() {
			answer(c, f)
			return
		}
		handOver(c, f)
	})
	d := &client.Dialer{Options: options(socket)}
	_ = dialAgain(t, d).Close()
	known.Store(true)
	for _, f := range change {
		f(&d.Options)
	}
	return d
}

// fullBroker returns a Dialer whose broker has answered as usher before, and whose
// backlog is full.
func fullBroker(t testing.TB) (d *client.Dialer, ln *net.UnixListener) {
	t.Helper()
	path, ln := shallow(t)
	served := make(chan error, 1)
	go func() {
		c, err := ln.AcceptUnix()
		if err == nil {
			serve(c, handOver)
		}
		served <- err
	}()
	d = &client.Dialer{Options: options(path)}
	_ = dialAgain(t, d).Close()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	fill(t, path)
	return d, ln
}

// serveAll answers every Hello that comes to ln, until the test ends.
func serveAll(t testing.TB, ln *net.UnixListener, answer func(c *net.UnixConn, hello *wire.Frame)) {
	acceptAll(t, ln, func(c *net.UnixConn) { serve(c, answer) })
}

// acceptAll gives every connection that ln has to use, until the test ends.
func acceptAll(t testing.TB, ln *net.UnixListener, use func(c *net.UnixConn)) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.AcceptUnix()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer context.AfterFunc(t.Context(), func() { _ = c.Close() })()
				defer func() { _ = c.Close() }()
				use(c)
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
}

// serve reads a Hello, has it answered and closes c.
func serve(c *net.UnixConn, answer func(c *net.UnixConn, hello *wire.Frame)) {
	defer func() { _ = c.Close() }()
	if f, _, err := frame.Read(c, frame.MaxHelloBody); err == nil {
		answer(c, f)
	}
}

// handOver answers as the backend that takes the connection.
func handOver(c *net.UnixConn, hello *wire.Frame) { _, _ = c.Write(handedOver(hello)) }

func handedOver(f *wire.Frame) []byte {
	return framed(grant(f, hello.Grant{BackendPipe: "/x", Token: token, ServerCapabilities: frame.CapUsher}), frame.HandoffReady(token, 1))
}

// wantTimeout: the call ended because its deadline passed.
func wantTimeout(t testing.TB, what string, err error) {
	t.Helper()
	timeout, ok := err.(net.Error)
	if !ok || !timeout.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: %v; want a timeout", what, err)
	}
}

// TestMain is the helper processes too.
func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func() error{"converse": converseWithService, "dialWithoutMemory": dialWithoutMemory})
}

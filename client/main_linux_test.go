package client_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/brokerpb"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
)

const (
	service = "notes"
	version = "1.2.0"
	// patience bounds what a test waits for; nothing here takes as long.
	patience = 10 * time.Second
)

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
	c, err := client.Dial(bounded(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// real starts a broker and a backend behind it.
func real(t testing.TB) (socket string, ln *backend.Listener) {
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
	b, err := broker.Listen(broker.Options{
		Socket: filepath.Join(dir, "b"), DefinitionDir: dir, DefinitionSource: "test", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
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
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.AcceptUnix()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(patience))
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	return path
}

// fakeBroker reads the Hello and hands the connection to answer.
func fakeBroker(t testing.TB, answer func(c *net.UnixConn, hello *brokerpb.Frame)) (path string) {
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
func hold(c *net.UnixConn) { _, _ = c.Read(make([]byte, 1)) }

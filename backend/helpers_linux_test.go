package backend_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/testutil"
)

const (
	service = "notes"
	version = "1.2.0"
	// patience bounds what a test waits for; nothing here takes as long, on a busy machine either.
	patience = 30 * time.Second
)

// place is a directory with a broker's socket, definitions and backend pipes.
type place struct{ dir string }

func newPlace(t testing.TB) place {
	t.Helper()
	p := place{testutil.SocketDir(t)}
	if err := os.Mkdir(p.definitions(), 0o700); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p place) definitions() string     { return filepath.Join(p.dir, "d") }
func (p place) socket() string          { return filepath.Join(p.dir, "b") }
func (p place) pipe(name string) string { return filepath.Join(p.dir, name) }

// define makes this test binary the program behind the service.
func (p place) define(t testing.TB) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	definition := fmt.Sprintf("binary_path = %q\n", exe)
	if err := os.WriteFile(filepath.Join(p.definitions(), service+".toml"), []byte(definition), 0o600); err != nil {
		t.Fatal(err)
	}
}

// startBroker serves p's socket until the returned stop, or the test's end.
func startBroker(t testing.TB, p place, change ...func(*broker.Options)) (stop func()) {
	t.Helper()
	return startBrokerAt(t, p.socket(), p.definitions(), change...)
}

func startBrokerAt(t testing.TB, socket, definitions string, change ...func(*broker.Options)) (stop func()) {
	t.Helper()
	opts := broker.Options{
		Socket: socket, DefinitionDir: definitions, DefinitionSource: "test",
		Logger: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&opts)
	}
	b, err := broker.Listen(opts)
	if err != nil {
		t.Fatal(err)
	}
	return testutil.Background(t, func(ctx context.Context) error {
		if err := b.Serve(ctx); !errors.Is(err, broker.ErrReplaced) {
			return err
		}
		return nil
	})
}

// listen makes a backend on the pipe "p". It is closed at the test's end.
func listen(t testing.TB, p place, change ...func(*backend.Options)) *backend.Listener {
	t.Helper()
	opts := backend.Options{Service: service, Version: version, Broker: p.socket(), Pipe: p.pipe("p")}
	for _, f := range change {
		f(&opts)
	}
	ln, err := backend.Listen(bounded(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = ln.Close()
		for { // what nobody accepts is open for a while
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	})
	return ln
}

// registered is listen behind a real broker that hands over.
func registered(t testing.TB, change ...func(*backend.Options)) (place, *backend.Listener) {
	t.Helper()
	p := newPlace(t)
	p.define(t)
	startBroker(t, p)
	ln := listen(t, p, change...)
	if err := ln.WaitRegistered(bounded(t)); err != nil {
		t.Fatal(err)
	}
	return p, ln
}

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func clientOptions(p place) client.Options {
	return client.Options{Service: service, Version: version, Broker: p.socket()}
}

func dial(t testing.TB, p place, change ...func(*client.Options)) *client.Conn {
	t.Helper()
	opts := clientOptions(p)
	for _, f := range change {
		f(&opts)
	}
	c, err := client.Dial(bounded(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

func reconnect(o *client.Options) { o.NoHandoff = true }

// impatient has a client return a refusal, which it would wait out.
func impatient(o client.Options) client.Options {
	o.Timeout = time.Second
	return o
}

// routes are the two ways to a backend.
var routes = map[string]func(*client.Options){
	string(client.HandedOver):  func(*client.Options) {},
	string(client.Reconnected): reconnect,
}

func accept(t testing.TB, ln net.Listener) *backend.Conn {
	t.Helper()
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*backend.Conn)
}

// wantEnd fails the test unless c has nothing more to say, with or without
// unread bytes at the other end.
func wantEnd(t testing.TB, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	n, err := c.Read(make([]byte, 1))
	if n != 0 || err == nil || os.IsTimeout(err) {
		t.Fatalf("read %d bytes, %v; want the connection's end", n, err)
	}
}

// wantBytes reads exactly want.
func wantBytes(t testing.TB, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got[:n], err, want)
	}
}

func send(t testing.TB, w io.Writer, data string) {
	t.Helper()
	if _, err := io.WriteString(w, data); err != nil {
		t.Fatal(err)
	}
}

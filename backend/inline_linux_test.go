package backend_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestInline: a first request is answered without Accept, on either route; more
// bytes, and what Inline leaves alone, reach Accept whole; connections that were
// answered take no place in its queue.
func TestInline(t *testing.T) {
	testutil.Leaks(t)
	p, ln := registered(t, func(o *backend.Options) {
		o.Backlog = 2
		o.Inline = func(answer, request []byte) ([]byte, bool) {
			if bytes.HasPrefix(request, []byte("big")) {
				return append(answer, make([]byte, 4<<20)...), true
			}
			return append(answer, request...), bytes.HasPrefix(request, []byte("ping"))
		}
	})
	ask := func(request string, route client.Route) *client.Conn {
		t.Helper()
		opts := clientOptions(p)
		opts.NoHandoff = route == client.Reconnected
		c, err := client.DialWith(bounded(t), opts, []byte(request))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if c.Route() != route {
			t.Errorf("%s came by route %s, want %s", request, c.Route(), route)
		}
		return c
	}
	for _, route := range []client.Route{client.HandedOver, client.Reconnected} {
		var open []*client.Conn
		for range 10 {
			c := ask("ping", route)
			wantBytes(t, c, "ping")
			open = append(open, c)
		}
		if _, err := io.WriteString(open[9], "second"); err != nil {
			t.Fatal(err)
		}
		wantBytes(t, accept(t, ln), "second")
		ask("else", route)
		wantBytes(t, accept(t, ln), "else")
		big := ask("big", route)
		if n, err := io.CopyN(io.Discard, big, 4<<20); err != nil {
			t.Errorf("%d bytes of the large answer, %v", n, err)
		}
		_ = accept(t, ln) // its goroutine has handed it on
		for _, c := range open {
			_ = c.Close()
		}
	}
}

// TestReplyWithoutAnswer: a client with early data learns that it was adopted even
// when the application says nothing, and whatever it does instead of writing.
func TestReplyWithoutAnswer(t *testing.T) {
	testutil.Leaks(t)
	p, ln := registered(t)
	for name, act := range map[string]func(*backend.Conn){
		"silence":     func(*backend.Conn) {},
		"close":       func(c *backend.Conn) { _ = c.Close() },
		"half-close":  func(c *backend.Conn) { _ = c.CloseWrite() },
		"raw":         func(c *backend.Conn) { _, _ = c.SyscallConn() },
		"empty write": func(c *backend.Conn) { _, _ = c.Write(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			dialled := make(chan error, 1)
			go func() {
				c, err := client.DialWith(bounded(t), clientOptions(p), []byte("request"))
				if err == nil {
					_ = c.Close()
				}
				dialled <- err
			}()
			c := accept(t, ln)
			act(c)
			if err := <-dialled; err != nil {
				t.Error(err)
			}
			_ = c.Close()
		})
	}
}

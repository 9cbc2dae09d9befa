package client_test

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestNetConn holds the client's end, on every route and before every verdict,
// against what a net.Conn must do.
func TestNetConn(t *testing.T) {
	const first = "first request"
	eager := func(t *testing.T, change func(*client.Options)) (net.Conn, *backend.Listener, error) {
		socket, ln := real(t)
		c, err := client.Dial(bounded(t), options(socket, change))
		return c, ln, err
	}
	// unasked makes a Conn of a broker that is known to be usher.
	unasked := func(t *testing.T) (net.Conn, *backend.Listener, error) {
		socket, ln := real(t)
		d := &client.Dialer{Options: options(socket)}
		_ = dialAgain(t, d).Close()
		drop(t, ln)
		c, err := d.Dial(bounded(t))
		return c, ln, err
	}
	routes := map[string]func(*testing.T) (c net.Conn, ln *backend.Listener, stripped string, err error){
		"handed over": func(t *testing.T) (net.Conn, *backend.Listener, string, error) {
			c, ln, err := eager(t, func(*client.Options) {})
			return c, ln, "", err
		},
		"reconnected": func(t *testing.T) (net.Conn, *backend.Listener, string, error) {
			c, ln, err := eager(t, func(o *client.Options) { o.NoHandoff = true })
			return c, ln, "", err
		},
		"unasked": func(t *testing.T) (net.Conn, *backend.Listener, string, error) {
			c, ln, err := unasked(t)
			return c, ln, "", err
		},
		"early, handed over": func(t *testing.T) (net.Conn, *backend.Listener, string, error) {
			c, ln, err := unasked(t)
			if err == nil {
				_, err = io.WriteString(c, first)
			}
			return c, ln, first, err
		},
		"early, reconnected": func(t *testing.T) (net.Conn, *backend.Listener, string, error) {
			_, ln := real(t)
			d := usherThen(t, func(c *net.UnixConn, f *wire.Frame) {
				write(c, grant(f, hello.Grant{BackendPipe: ln.Addr().String()}))
			})
			c, err := d.Dial(bounded(t))
			if err == nil {
				_, err = io.WriteString(c, first)
			}
			return c, ln, first, err
		},
		"DialWith": func(t *testing.T) (net.Conn, *backend.Listener, string, error) {
			socket, ln := real(t)
			c, err := client.DialWith(bounded(t), options(socket), []byte(first))
			return c, ln, first, err
		},
		"hello skipped": func(t *testing.T) (net.Conn, *backend.Listener, string, error) {
			socket, ln := real(t)
			c, err := client.Dial(bounded(t), options(socket, func(o *client.Options) {
				o.CachedEndpoint, o.OwnVersion = ln.Addr().String(), version
			}))
			return c, ln, "", err
		},
	}
	for name, open := range routes {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
				c, ln, stripped, err := open(t)
				if err != nil {
					return nil, nil, nil, err
				}
				other := newAccepted(ln, stripped)
				return c, other, func() { _ = c.Close(); _ = other.Close() }, nil
			})
		})
	}
}

// drop accepts one connection and closes it.
func drop(t testing.TB, ln *backend.Listener) {
	t.Helper()
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

// accepted is the connection that a listener accepts next, be it there yet or not.
type accepted struct {
	ln   *backend.Listener
	conn func() (net.Conn, error)
}

// newAccepted reads what the client has written before.
func newAccepted(ln *backend.Listener, stripped string) *accepted {
	return &accepted{ln: ln, conn: sync.OnceValues(func() (net.Conn, error) {
		c, err := ln.Accept()
		if err == nil && early(c, len(stripped)) != stripped {
			err = errors.New("the first request is another")
		}
		return c, err
	})}
}

func (a *accepted) Read(p []byte) (int, error) {
	c, err := a.conn()
	if err != nil {
		return 0, io.EOF // nobody has come
	}
	return c.Read(p)
}

func (a *accepted) Write(p []byte) (int, error) {
	c, err := a.conn()
	if err != nil {
		return 0, err
	}
	return c.Write(p)
}

func (a *accepted) Close() error {
	_ = a.ln.Close()
	if c, err := a.conn(); err == nil {
		return c.Close()
	}
	return nil
}

func (a *accepted) LocalAddr() net.Addr              { return a.ln.Addr() }
func (a *accepted) RemoteAddr() net.Addr             { return a.ln.Addr() }
func (a *accepted) SetDeadline(time.Time) error      { return nil }
func (a *accepted) SetReadDeadline(time.Time) error  { return nil }
func (a *accepted) SetWriteDeadline(time.Time) error { return nil }

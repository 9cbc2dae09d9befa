package backend_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// web serves handler on ln, unchanged, and returns a client that takes a route.
// shutdown ends the server gracefully and runs at the test's end at the latest.
func web(t *testing.T, p place, ln *backend.Listener, route func(*client.Options), handler http.HandlerFunc) (_ *http.Client, shutdown func() error) {
	t.Helper()
	server := &http.Server{Handler: handler}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	opts := clientOptions(p)
	route(&opts)
	transport := &http.Transport{DialContext: client.HTTP(opts)}
	shutdown = sync.OnceValue(func() error {
		transport.CloseIdleConnections()
		err := server.Shutdown(bounded(t))
		if got := <-served; !errors.Is(got, http.ErrServerClosed) {
			t.Errorf("Serve returned %v", got)
		}
		return err
	})
	t.Cleanup(func() { _ = shutdown() })
	return &http.Client{Transport: transport}, shutdown
}

func get(t *testing.T, c *http.Client, path string) string {
	t.Helper()
	resp, err := c.Get("http://notes" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestHTTPManyRequests(t *testing.T) {
	for name, route := range routes {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			p, ln := registered(t)
			c, _ := web(t, p, ln, route, func(w http.ResponseWriter, r *http.Request) {
				_, _ = fmt.Fprint(w, r.URL.Path)
			})
			var wg sync.WaitGroup
			for worker := range 8 {
				wg.Go(func() {
					for n := range 10 {
						want := fmt.Sprintf("/%d/%d", worker, n)
						resp, err := c.Get("http://notes" + want)
						if err != nil {
							t.Error(err)
							return
						}
						got, err := io.ReadAll(resp.Body)
						_ = resp.Body.Close()
						if err != nil || string(got) != want {
							t.Errorf("got %q, %v; want %q", got, err, want)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// TestHTTPKeepAlive: many requests on one connection, which both sides see as
// the route says.
func TestHTTPKeepAlive(t *testing.T) {
	for name, route := range routes {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			p, ln := registered(t)
			accepted := make(counting, 10)
			server := &http.Server{Handler: http.NotFoundHandler(), ConnContext: accepted.note}
			served := make(chan error, 1)
			go func() { served <- server.Serve(ln) }()
			opts := clientOptions(p)
			route(&opts)
			transport := &http.Transport{DialContext: client.HTTP(opts)}
			for range 5 {
				_ = get(t, &http.Client{Transport: transport}, "/")
			}
			transport.CloseIdleConnections()
			if err := server.Shutdown(bounded(t)); err != nil {
				t.Error(err)
			}
			<-served
			close(accepted)
			var handed []bool
			for h := range accepted {
				handed = append(handed, h)
			}
			if want := name == string(client.HandedOver); len(handed) != 1 || handed[0] != want {
				t.Errorf("connections by whether they were handed over: %v, want one, %v", handed, want)
			}
		})
	}
}

func TestHTTPStreamingAndLargeBodies(t *testing.T) {
	big := bytes.Repeat([]byte("usher hands a live connection over. "), 128<<10) // 4.5 MB
	for name, route := range routes {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			p, ln := registered(t)
			c, _ := web(t, p, ln, route, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/sum" {
					h := sha256.New()
					_, _ = io.Copy(h, r.Body)
					_, _ = fmt.Fprintf(w, "%x", h.Sum(nil))
					return
				}
				// An echo, piece by piece, while the request is still being sent.
				control := http.NewResponseController(w)
				if err := control.EnableFullDuplex(); err != nil {
					t.Error(err)
				}
				part := make([]byte, 16)
				for {
					n, err := r.Body.Read(part)
					_, _ = w.Write(part[:n])
					_ = control.Flush()
					if err != nil {
						return
					}
				}
			})
			resp, err := c.Post("http://notes/sum", "", bytes.NewReader(big))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if want := fmt.Sprintf("%x", sha256.Sum256(big)); err != nil || string(got) != want {
				t.Errorf("sum is %s, %v; want %s", got, err, want)
			}

			body, pieces := io.Pipe()
			go func() { _, _ = io.WriteString(pieces, "first") }()
			resp, err = c.Post("http://notes/echo", "", body)
			if err != nil {
				t.Fatal(err)
			}
			wantBytes(t, resp.Body, "first")
			go func() { _, _ = io.WriteString(pieces, "second"); _ = pieces.Close() }()
			wantBytes(t, resp.Body, "second")
			_ = resp.Body.Close()
		})
	}
}

// TestHTTPShutdown: a request under way ends well while the server shuts down,
// and a new one finds no backend.
func TestHTTPShutdown(t *testing.T) {
	for name, route := range routes {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			p, ln := registered(t)
			arrived, finish := make(chan struct{}), make(chan struct{})
			c, shutdown := web(t, p, ln, route, func(w http.ResponseWriter, _ *http.Request) {
				close(arrived)
				<-finish
				_, _ = io.WriteString(w, "done")
			})
			answer := make(chan string)
			go func() {
				resp, err := c.Get("http://notes/")
				if err != nil {
					answer <- err.Error()
					return
				}
				defer func() { _ = resp.Body.Close() }()
				body, _ := io.ReadAll(resp.Body)
				answer <- string(body)
			}()
			<-arrived
			ended := make(chan error, 1)
			go func() { ended <- shutdown() }()
			testutil.WaitFor(t, "the listener is closed, its pipe last", func() bool {
				_, err := os.Lstat(ln.Addr().String())
				return errors.Is(err, fs.ErrNotExist)
			})
			if conn, err := client.Dial(bounded(t), impatient(clientOptions(p))); err == nil {
				_ = conn.Close()
				t.Error("dialled a backend that shuts down")
			}
			close(finish)
			if got := <-answer; got != "done" {
				t.Errorf("the request under way got %q", got)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// counting gathers whether each of a server's connections was handed over.
type counting chan bool

func (c counting) note(ctx context.Context, conn net.Conn) context.Context {
	c <- conn.(*backend.Conn).HandedOver()
	return ctx
}

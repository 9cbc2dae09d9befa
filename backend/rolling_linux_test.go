package backend_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// replacements is how often a listener is replaced under load.
const replacements = 20

// fates counts what became of requests.
type fates struct {
	mu   sync.Mutex
	ran  map[string]int // by id
	told map[string]int // by verdict
	errs []error
}

func (f *fates) run(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ran[id]++
}

func (f *fates) tell(verdict string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told[verdict]++
	if err != nil && len(f.errs) < 5 {
		f.errs = append(f.errs, fmt.Errorf("%s: %w", verdict, err))
	}
}

// serveLines answers every line until ln is closed and empty.
func (f *fates) serveLines(ln *backend.Listener, serving *sync.WaitGroup) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		serving.Go(func() {
			defer func() { _ = c.Close() }()
			line, err := bufio.NewReader(c).ReadString('\n')
			if err != nil {
				return
			}
			f.run(strings.TrimSpace(line))
			_, _ = io.WriteString(c, "did "+line)
		})
	}
}

// ask sends one request, again where it is known not to have been sent.
func (f *fates) ask(t *testing.T, d *client.Dialer, id string) {
	for range 100 {
		sent, err := askOnce(t, d, id)
		switch {
		case err == nil:
			f.tell("answered", nil)
			return
		case sent || errors.Is(err, client.ErrOutcomeUnknown):
			f.tell("unknown", err)
			return
		}
		f.tell("again", nil)
	}
	f.tell("lost", errors.New("never sent"))
}

func askOnce(t *testing.T, d *client.Dialer, id string) (sent bool, err error) {
	c, err := d.Dial(bounded(t))
	if err != nil {
		return false, err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, id+"\n"); err != nil {
		return false, err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	var refused *client.RefusedError
	if errors.Is(err, client.ErrBackendUnreachable) || errors.As(err, &refused) {
		return false, err // the route failed before the request left
	}
	if err == nil && line != "did "+id+"\n" {
		err = fmt.Errorf("answer %q", line)
	}
	return true, err
}

// manyHellos: all clients are one process here.
func manyHellos(o *broker.Options) { o.HelloRate = 1 << 20 }

var loads = map[string]func(*client.Options){
	"lazy":         func(*client.Options) {},
	"eager":        func(o *client.Options) { o.Eager = true },
	"reconnecting": reconnect,
}

// TestRollingReplacement: while listeners replace each other, every request is answered,
// by one of them, once.
func TestRollingReplacement(t *testing.T) {
	for name, inline := range map[string]bool{"": false, ", Inline looks on": true} {
		t.Run("lines"+name, func(t *testing.T) {
			testutil.Leaks(t)
			p := newPlace(t)
			p.define(t)
			startBroker(t, p, manyHellos)
			f := &fates{ran: make(map[string]int), told: make(map[string]int)}
			var serving, clients sync.WaitGroup
			start := func(n int) *backend.Listener {
				ln := listen(t, p, func(o *backend.Options) {
					o.Pipe = p.pipe(fmt.Sprintf("p%d", n))
					if inline {
						o.Inline = func(answer, _ []byte) ([]byte, bool) { return answer, false }
					}
				})
				if err := ln.WaitRegistered(bounded(t)); err != nil {
					t.Fatal(err)
				}
				serving.Go(func() { f.serveLines(ln, &serving) })
				return ln
			}
			old := start(0)
			var stop atomic.Bool
			for kind, change := range loads {
				for worker := range 2 {
					clients.Go(func() {
						d := &client.Dialer{Options: client.Options{Service: service, Version: version, Broker: p.socket(), Timeout: patience}}
						change(&d.Options)
						for n := 0; !stop.Load(); n++ {
							f.ask(t, d, fmt.Sprintf("%s-%d-%d", kind, worker, n))
						}
					})
				}
			}
			for n := range replacements {
				f.served(t, 100*(n+1))
				ln := start(n + 1)
				if err := old.Close(); err != nil {
					t.Error(err)
				}
				old = ln
			}
			stop.Store(true)
			clients.Wait()
			_ = old.Close()
			serving.Wait()
			f.check(t)
		})
	}
}

// served waits until n requests have been answered.
func (f *fates) served(t *testing.T, n int) {
	t.Helper()
	testutil.WaitFor(t, "requests are answered", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.told["answered"] >= n
	})
}

func (f *fates) check(t *testing.T) {
	t.Helper()
	for id, n := range f.ran {
		if n != 1 {
			t.Errorf("%s ran %d times", id, n)
		}
	}
	if f.told["answered"] != len(f.ran) || f.told["unknown"]+f.told["lost"] > 0 {
		t.Errorf("%d ran; %v; %v", len(f.ran), f.told, f.errs)
	}
	t.Log(f.told)
}

// TestRollingHTTPServers: an http.Server whose listener is closed beside its successor's
// answers what it still accepts; when that is done, Shutdown has nothing to lose. (Shutdown
// alone has net/http read requests that have just been accepted, and drop them.) Shutdown
// and Close return, and end the connections.
func TestRollingHTTPServers(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	p.define(t)
	startBroker(t, p, manyHellos)
	type running struct {
		*http.Server
		ln     *backend.Listener
		open   atomic.Int64
		served chan error
	}
	start := func(n int) *running {
		r := &running{served: make(chan error, 1)}
		r.ln = listen(t, p, func(o *backend.Options) { o.Pipe = p.pipe(fmt.Sprintf("p%d", n)) })
		if err := r.ln.WaitRegistered(bounded(t)); err != nil {
			t.Fatal(err)
		}
		r.Server = &http.Server{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) }),
			ConnState: func(_ net.Conn, s http.ConnState) {
				switch s {
				case http.StateNew:
					r.open.Add(1)
				case http.StateClosed:
					r.open.Add(-1)
				}
			},
		}
		go func() { r.served <- r.Serve(r.ln) }()
		return r
	}
	old := start(0)
	var stop atomic.Bool
	var answered atomic.Int64
	var clients sync.WaitGroup
	for _, change := range loads {
		clients.Go(func() {
			opts := client.Options{Service: service, Version: version, Broker: p.socket()}
			change(&opts)
			dial := client.HTTP(opts)
			for !stop.Load() {
				transport := &http.Transport{DialContext: dial, DisableKeepAlives: true}
				resp, err := (&http.Client{Transport: transport}).Get("http://notes/x")
				if errors.Is(err, client.ErrBackendUnreachable) {
					continue // not sent
				}
				if err != nil {
					t.Error(err)
					continue
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || string(body) != "/x" {
					t.Errorf("body %q, %v", body, err)
				}
				answered.Add(1)
			}
		})
	}
	for n := range int64(replacements) {
		testutil.WaitFor(t, "requests are answered", func() bool { return answered.Load() >= 30*(n+1) })
		next := start(int(n) + 1)
		if err := old.ln.Close(); err != nil {
			t.Error(err)
		}
		if err := <-old.served; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve returned %v", err)
		}
		testutil.WaitFor(t, "what was accepted is answered", func() bool { return old.open.Load() == 0 })
		if err := old.Shutdown(bounded(t)); err != nil {
			t.Error(err)
		}
		old = next
	}
	stop.Store(true)
	clients.Wait()
	silent := dialPipe(t, old.ln.Addr().String())
	if err := old.Close(); err != nil {
		t.Error(err)
	}
	if err := <-old.served; !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve returned %v", err)
	}
	wantEnd(t, silent)
}

package backend_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// servedAgain waits until a client that reconnects reaches ln.
func servedAgain(t *testing.T, p place, ln *backend.Listener) {
	t.Helper()
	testutil.WaitFor(t, "a reconnecting client is served", func() bool {
		opts := clientOptions(p)
		reconnect(&opts)
		c, err := client.Dial(bounded(t), opts)
		if err != nil {
			if !errors.Is(err, client.ErrBackendUnreachable) && !errors.As(err, new(*client.RefusedError)) && !errors.Is(err, client.ErrBrokerUnreachable) {
				t.Fatal(err)
			}
			return false
		}
		defer func() { _ = c.Close() }()
		s := accept(t, ln)
		testutil.CheckConnected(t, c, s)
		_ = s.Close()
		return true
	})
}

// chosen and random are the two kinds of pipe paths.
var pipes = map[string]func(*backend.Options){
	"chosen": func(*backend.Options) {},
	"random": func(o *backend.Options) { o.Pipe = "" },
}

// TestPipeRemoved: a backend whose pipe's name is removed, or taken by something else,
// binds anew, and clients reach it there, also those who have been in the old queue;
// with a watch and without one.
func TestPipeRemoved(t *testing.T) {
	for kind, change := range pipes {
		for how, remove := range map[string]func(path string) error{
			"removed":        os.Remove,
			"removed, lock":  func(path string) error { _ = os.Remove(path + ".lock"); return os.Remove(path) },
			"moved":          func(path string) error { return os.Rename(path, path+".old") },
			"dead socket on": func(path string) error { return replaceByDead(path) },
		} {
			for watched, refuse := range map[string]func(testing.TB){"": func(testing.TB) {}, ", no watch": backend.RefuseWatches} {
				t.Run(kind+", "+how+watched, func(t *testing.T) {
					testutil.Leaks(t)
					refuse(t)
					p, ln := registeredIn(t, change)
					rounds := 3
					if watched != "" {
						rounds = 1 // each takes a second
					}
					for range rounds {
						before := ln.Addr().String()
						var waiting []*net.UnixConn
						for range 40 { // more than the listener takes from the kernel's queue
							waiting = append(waiting, dialPipe(t, before))
						}
						if err := remove(before); err != nil {
							t.Fatal(err)
						}
						// The loop makes room as they are accepted: those behind are waiting still.
						for i, c := range waiting {
							send(t, c, fmt.Sprintf("%02d", i))
							s := accept(t, ln)
							wantBytes(t, s, fmt.Sprintf("%02d", i))
							_ = s.Close()
							_ = c.Close()
						}
						servedAgain(t, p, ln)
						if changed := ln.Addr().String() != before; changed != (kind == "random") {
							t.Errorf("the path changed: %t", changed)
						}
						if got := dial(t, p).Route(); got != client.HandedOver {
							t.Errorf("route %s", got)
						}
						_ = accept(t, ln).Close()
					}
					if err := ln.Close(); err != nil {
						t.Error(err)
					}
					if _, err := os.Lstat(ln.Addr().String()); !errors.Is(err, os.ErrNotExist) {
						t.Errorf("the name is left: %v", err)
					}
				})
			}
		}
	}
}

func replaceByDead(path string) error {
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path + "x", Net: "unix"})
	if err != nil {
		return err
	}
	dead.SetUnlinkOnClose(false)
	return errors.Join(os.Rename(path+"x", path), dead.Close())
}

// registeredIn is registered in a runtime directory of the test's own.
func registeredIn(t *testing.T, change func(*backend.Options)) (place, *backend.Listener) {
	t.Helper()
	run := testutil.SocketDir(t)
	t.Setenv("XDG_RUNTIME_DIR", run)
	return registered(t, change)
}

// TestDirectoryRemoved: when everything is removed, the pipe, its lock, the broker's
// socket and the directory they are in, a new broker takes the backend in again.
func TestDirectoryRemoved(t *testing.T) {
	for kind, change := range pipes {
		t.Run(kind, func(t *testing.T) {
			testutil.Leaks(t)
			p := place{testutil.SocketDir(t)}
			t.Setenv("XDG_RUNTIME_DIR", p.dir+"/r")
			if err := os.MkdirAll(p.definitions(), 0o700); err != nil {
				t.Fatal(err)
			}
			p.define(t)
			run := place{p.dir + "/r"} // what is removed; the definitions stay
			if err := os.Mkdir(run.dir, 0o700); err != nil {
				t.Fatal(err)
			}
			start := func() func() { return startBrokerAt(t, run.socket(), p.definitions()) }
			stop := start()
			ln := listen(t, run, change)
			if err := ln.WaitRegistered(bounded(t)); err != nil {
				t.Fatal(err)
			}
			for n := range 3 {
				if err := os.Rename(run.dir, fmt.Sprint(run.dir, n)); err != nil {
					t.Fatal(err)
				}
				stop()
				stop = start()
				servedAgain(t, run, ln)
				if err := ln.WaitRegistered(bounded(t)); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestNewPathFirst: the broker knows the new path before the channel that came with the
// old one ends, and a connection that waits on that is served.
func TestNewPathFirst(t *testing.T) {
	testutil.Needs(t, "watches")
	testutil.Leaks(t)
	backend.SetReplyTimeout(t, patience)
	t.Setenv("XDG_RUNTIME_DIR", testutil.SocketDir(t))
	p := newPlace(t)
	var older atomic.Pointer[session]
	wires := takingIn(t, p, func() (*claim.Page, *sock.FD, error) {
		if w := older.Load(); w != nil {
			fds := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLRDHUP}}
			if n, err := unix.Poll(fds, 0); n != 0 || err != nil {
				t.Errorf("the older channel has ended: %v", err)
			}
		}
		return claim.NewPage()
	})
	ln := listen(t, p, pipes["random"])
	first := next(t, wires)
	l := newLoad(t)
	first.offer(t, offer(1, declared), l.conn, l.claimFD())
	older.Store(&first)
	if err := os.Remove(ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	second := next(t, wires)
	if ack := first.ack(t); !ack.Accepted { // before the end of what could carry it
		t.Errorf("answer %v", ack)
	}
	if _, err := first.Recv(); err != io.EOF {
		t.Errorf("the older channel: %v", err)
	}
	l.drop()
	send(t, l.client, earlyBytes)
	s := accept(t, ln)
	wantBytes(t, s, earlyBytes)
	wantBytes(t, l.client, preamble)
	second.works(t, ln, 2)
}

// TestPipesDirectoryRemoved: the directory of the pipe goes, again and again, and the
// broker's stays.
func TestPipesDirectoryRemoved(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	p.define(t)
	startBroker(t, p)
	ln := listen(t, p, func(o *backend.Options) { o.Pipe = p.pipe("x/p") })
	if err := ln.WaitRegistered(bounded(t)); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		// In one step: what removes it file by file may meet the new pipe.
		if err := os.Rename(p.pipe("x"), p.pipe(fmt.Sprint("gone", n))); err != nil {
			t.Fatal(err)
		}
		servedAgain(t, p, ln)
	}
}

// TestNewPathAtTheBound: a process that has all the places that one may have gets its new
// path registered in place of the old one.
func TestNewPathAtTheBound(t *testing.T) {
	testutil.Leaks(t)
	t.Setenv("XDG_RUNTIME_DIR", testutil.SocketDir(t))
	p := newPlace(t)
	p.define(t)
	startBroker(t, p, func(o *broker.Options) { o.MaxBackends = 16 * 8 })
	var first *backend.Listener
	for n := range 8 {
		ln := listen(t, p, func(o *backend.Options) { o.Pipe, o.Version = "", fmt.Sprintf("1.0.%d", n) })
		if err := ln.WaitRegistered(bounded(t)); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			first = ln
		}
	}
	if err := os.Remove(first.Addr().String()); err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "a reconnecting client is served", func() bool {
		opts := clientOptions(p)
		opts.Version = "1.0.0"
		reconnect(&opts)
		c, err := client.Dial(bounded(t), opts)
		if err != nil {
			return false
		}
		defer func() { _ = c.Close() }()
		_ = accept(t, first).Close()
		return true
	})
}

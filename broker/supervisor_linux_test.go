package broker_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// passed is a socket at path, and another descriptor of it, as its maker keeps one.
func passed(t *testing.T, path string) (l *net.UnixListener, kept *os.File) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if kept, err = l.File(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kept.Close() })
	return l, kept
}

// TestPassedSocketOutlivesTheBroker: those in its queue while the broker drains are left
// to the next one, unread.
func TestPassedSocketOutlivesTheBroker(t *testing.T) {
	var kept *os.File
	var opts options
	draining := make(chan struct{})
	s := newSite(t, func(o *options) {
		o.Listener, kept = passed(t, o.Socket)
		o.KeepName = true
		opts = *o
		o.Supervisor.Draining = func() { close(draining) }
	})
	b := s.fake(demoVersion)
	underway := s.dial()
	send(t, underway, helloFor(t, usherClient, nil))
	o := b.receive()
	s.stop()
	<-draining // in the same turn of the loop it stops to accept
	waiting := s.dial()
	send(t, waiting, helloFor(t, usherClient, nil))
	served := b.adopt(o)
	b.ack(o, nil)
	readHandedOver(t, underway)
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	b.ended()
	testutil.CheckConnected(t, served, underway)
	l, err := net.FileListener(kept)
	if err != nil {
		t.Fatal(err)
	}
	opts.Listener = l.(*net.UnixListener)
	next, err := broker.Listen(opts)
	if err != nil {
		t.Fatal(err)
	}
	testutil.Background(t, next.Serve)
	readRefusal(t, waiting, notRegistered, "")
}

// TestListenClosesWhatItCantUse: a passed socket is the broker's from the call on.
func TestListenClosesWhatItCantUse(t *testing.T) {
	dir := testutil.SocketDir(t)
	for name, opts := range map[string]options{
		"no path":      {},
		"another path": {Socket: filepath.Join(dir, "other")},
	} {
		l, _ := passed(t, filepath.Join(dir, name))
		opts.Listener = l
		if _, err := broker.Listen(opts); err == nil {
			t.Fatalf("%s: no error", name)
		}
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: the socket is open", name)
		}
	}
}

// TestSupervisor: it is told when the loop serves, that it goes on, and when it drains.
func TestSupervisor(t *testing.T) {
	var serving, draining, alive atomic.Int64
	s := newSite(t, func(o *options) {
		o.Supervisor = broker.Supervisor{
			Serving:  func() { serving.Add(1) },
			Draining: func() { draining.Add(1) },
			Alive:    func() { alive.Add(1) }, AliveEvery: time.Millisecond,
		}
	})
	testutil.WaitFor(t, "the loop goes on", func() bool { return alive.Load() > 3 })
	if n, d := serving.Load(), draining.Load(); n != 1 || d != 0 {
		t.Errorf("told %d times that it serves, %d times that it drains", n, d)
	}
	s.stop()
	if err := s.end(); err != nil {
		t.Error(err)
	}
	if n, d := serving.Load(), draining.Load(); n != 1 || d != 1 {
		t.Errorf("in the end told %d times that it served, %d times that it drained", n, d)
	}
	if _, err := os.Lstat(s.Socket()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the name: %v", err)
	}
}

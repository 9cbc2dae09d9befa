package broker_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

const shuttingDown = wire.ErrorCode_ERROR_SHUTTING_DOWN

// TestDrain: while the broker drains, a handoff under way is finished, a Hello
// that is still to come is refused, and no name is left behind.
func TestDrain(t *testing.T) {
	s := newSite(t, nil)
	b := s.fake(demoVersion)
	underway, late := s.dial(), s.dial()
	send(t, underway, helloFor(t, usherClient, nil))
	o := b.receive()
	wire := helloFor(t, usherClient, nil)
	send(t, late, wire[:10])
	s.stop()
	testutil.WaitFor(t, "draining", s.Draining)
	send(t, late, wire[10:])
	if r := readRefusal(t, late, shuttingDown, "broker is shutting down; retry shortly"); r.RetryAfterMs != 1000 {
		t.Errorf("got %v", r)
	}
	testutil.WaitFor(t, "the name is gone", func() bool { _, err := os.Lstat(s.Socket()); return err != nil })
	served := b.adopt(o)
	b.ack(o, nil)
	readHandedOver(t, underway)
	if err := s.end(); err != nil {
		t.Error(err)
	}
	b.ended()
	testutil.CheckConnected(t, served, underway) // lives on
}

// TestDrainQueue: whoever waits in the kernel's queue when draining begins gets a
// refusal, all of them. A broker that does not serve yet lets the queue grow.
func TestDrainQueue(t *testing.T) {
	const crowd = 300
	s := unserved(t, func(o *options) { o.MaxHandshakesPerPeer = crowd })
	wire := helloFor(t, usherClient, nil)
	conns := make([]net.Conn, crowd)
	for i := range conns {
		conns[i] = s.dial()
		send(t, conns[i], wire)
	}
	s.stop()
	s.serve()
	for i, c := range conns {
		_, reply := readReply(t, c)
		// The first ones may be served before draining has begun.
		if code := testutil.Refused(reply).Code; code != shuttingDown && code != notRegistered {
			t.Fatalf("connection %d got %v", i, reply)
		}
		_ = c.Close()
	}
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

// TestDrainSilent: connections on which nothing was said don't hold the drain.
// They are told why they end.
func TestDrainSilent(t *testing.T) {
	s := newSite(t, func(o *options) { o.DrainTimeout = time.Minute })
	silent := s.dial()
	testutil.WaitFor(t, "it is held", func() bool { n, _ := s.Pending(); return n == 1 })
	s.stop()
	readRefusal(t, silent, shuttingDown, "")
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

// TestDrainTimeout: a backend that holds an offer can't hold the broker. The
// client gets its verdict: the claim was taken back.
func TestDrainTimeout(t *testing.T) {
	for name, begin := range map[string]func(*site){
		"option": (*site).stopNow,
		"verb": func(s *site) {
			s.admin(wire.AdminVerb_ADMIN_VERB_SHUTDOWN, func(r *wire.AdminRequest) { r.DrainDeadlineMs = 50 })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(o *options) {
				o.AckDeadline, o.DrainTimeout = time.Minute, time.Minute
				if name == "option" {
					o.DrainTimeout = 50 * time.Millisecond
				}
			})
			b := s.fake(demoVersion)
			c := s.dial()
			send(t, c, helloFor(t, usherClient, nil))
			o := b.receive()
			begin(s)
			readPipe(t, c, b.pipe)
			if b.take(o) {
				t.Error("the claim was still there")
			}
			if err := s.end(); err != nil {
				t.Error(err)
			}
		})
	}
}

func (s *site) stopNow() { s.stop() }

// TestBackendsOutliveTheBroker: they register with its successor, and handoffs go
// on. What was handed over before is not touched.
func TestBackendsOutliveTheBroker(t *testing.T) {
	s := newSite(t, nil)
	l := s.listen(demoVersion)
	before := s.dial()
	send(t, before, helloFor(t, usherClient, nil))
	readHandedOver(t, before)
	s.stop()
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	checkEcho(t, before)
	direct := dial(t, l.Addr().String())
	checkEcho(t, direct)

	next, err := broker.Listen(options{Socket: s.Socket(), DefinitionDir: s.defs, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- next.Serve(ctx) }()
	testutil.WaitFor(t, "the backend has come back", func() bool { return next.Backends() == 1 })
	after := s.dial()
	send(t, after, helloFor(t, usherClient, nil))
	readHandedOver(t, after)
	checkEcho(t, after)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestSocketReplaced: a broker whose name leads elsewhere ends within a second
// and leaves alone what is there now.
func TestSocketReplaced(t *testing.T) {
	for name, replace := range map[string]func(t *testing.T, path string){
		"removed": func(t *testing.T, path string) {},
		"another socket": func(t *testing.T, path string) {
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
		},
		"a file": func(t *testing.T, path string) {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"removed, and no watch": func(t *testing.T, _ string) {},
	} {
		t.Run(name, func(t *testing.T) {
			removed := strings.HasPrefix(name, "removed")
			if name == "removed, and no watch" {
				t.Cleanup(broker.RefuseSocketWatch()) // behind the site's end
			}
			s := newSite(t, nil)
			if err := os.Remove(s.Socket()); err != nil {
				t.Fatal(err)
			}
			replace(t, s.Socket())
			if err := s.end(); !errors.Is(err, broker.ErrReplaced) {
				t.Errorf("Serve: %v", err)
			}
			if _, err := os.Lstat(s.Socket()); !removed && err != nil {
				t.Error("what took the place is gone:", err)
			}
		})
	}
}

// TestInUse: a second broker is told who is there.
func TestInUse(t *testing.T) {
	s := newSite(t, nil)
	b, err := broker.Listen(options{Socket: s.Socket(), DefinitionDir: s.defs})
	var inUse *endpoint.InUseError
	if b != nil || !errors.As(err, &inUse) || inUse.PID != os.Getpid() {
		t.Errorf("got %v, %v", b, err)
	}
}

package broker_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// predecessor is what a broker whose place is taken says, by the test's word.
type predecessor struct {
	tb testing.TB
	ch *sock.Channel
}

// successorOf makes a broker that is to take the place of s. It serves when the test says
// so; what it is told, the test tells.
func successorOf(t *testing.T, s *site, change func(*options)) (next *site, first *predecessor) {
	t.Helper()
	near, far, err := sock.Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close() })
	inherited, err := unix.FcntlInt(uintptr(sock.Number(far)), unix.F_DUPFD_CLOEXEC, 3)
	far.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(broker.HandoverVariable, strconv.Itoa(inherited))
	of, err := broker.TakePredecessor()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := sock.ListenerOf(s.Listener().(*net.UnixListener))
	if err != nil {
		t.Fatal(err)
	}
	first = &predecessor{t, near}
	first.say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_LISTENER, Format: 1}, listener)
	opts := options{Socket: s.Socket(), DefinitionDir: s.defs, Predecessor: of, BackendWait: 1, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&opts)
	}
	b, err := broker.Listen(opts)
	if err != nil {
		t.Fatal(err)
	}
	next = &site{tb: t, Broker: b, dir: s.dir, defs: s.defs, ended: make(chan error, 1)}
	next.ctx, next.stop = context.WithCancel(context.Background())
	return next, first
}

func (p *predecessor) say(h *wire.Handover, with ...sock.Lender) {
	p.tb.Helper()
	msg, err := frame.Append(nil, frame.HandoverEvent(h))
	if err == nil {
		err = p.ch.Send(msg, with...)
	}
	if err != nil {
		p.tb.Fatal(err)
	}
}

// ready waits until the successor could serve.
func (p *predecessor) ready() {
	p.tb.Helper()
	msg, err := p.ch.Recv()
	if err != nil {
		p.tb.Fatal(err)
	}
	msg.FDs.Close()
}

// TestSuccessorThatEndsLeavesTheName: one that never got the word to serve leaves the
// socket to who serves it, whether it ends before it could serve, or is told to end then.
func TestSuccessorThatEndsLeavesTheName(t *testing.T) {
	for name, end := range map[string]func(*site, *predecessor){
		"before Serve": func(next *site, _ *predecessor) { _ = next.Close() },
		"while it waits": func(next *site, first *predecessor) {
			next.serve()
			first.ready()
			next.stop()
			_ = next.end()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, nil)
			next, first := successorOf(t, s, nil)
			end(next, first)
			if _, err := os.Lstat(s.Socket()); errors.Is(err, os.ErrNotExist) {
				t.Error("the name of the socket has gone, and with it the broker that served on")
			}
			testutil.WaitFor(t, "the broker serves on", func() bool { return !s.Draining() })
			_ = s.dial()
		})
	}
}

// TestSuccessorRemovesTheName: once it serves, the name is its own.
func TestSuccessorRemovesTheName(t *testing.T) {
	s := newSite(t, nil)
	next, first := successorOf(t, s, nil)
	next.serve()
	first.ready()
	first.say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_GO})
	testutil.WaitFor(t, "it serves", next.Begun)
	next.stop()
	_ = next.end()
	if _, err := os.Lstat(s.Socket()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the name is there: %v", err)
	}
	if err := s.end(); !errors.Is(err, broker.ErrReplaced) {
		t.Errorf("got %v", err)
	}
}

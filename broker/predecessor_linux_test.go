package broker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
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
func successorOf(t *testing.T, s *site, keepName bool, change func(*options)) (next *site, first *predecessor) {
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
	first.say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_LISTENER, Format: 1, KeepName: keepName}, listener)
	opts := options{Socket: s.Socket(), DefinitionDir: s.defs, Predecessor: of, BackendWait: 1, AckDeadline: time.Minute, DrainTimeout: patience, Logger: slog.New(slog.DiscardHandler)}
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

// hear returns what the successor says next.
func (p *predecessor) hear() *wire.Handover {
	p.tb.Helper()
	msg, err := p.ch.Recv()
	if err != nil {
		p.tb.Fatal(err)
	}
	msg.FDs.Close()
	f, err := msg.Frame()
	if err != nil {
		p.tb.Fatal(err)
	}
	h, err := frame.ParseHandover(f)
	if err != nil {
		p.tb.Fatal(err)
	}
	return h
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
			next, first := successorOf(t, s, false, nil)
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
	next, first := successorOf(t, s, false, nil)
	next.serve()
	first.ready()
	first.leave()
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

// client is one whose connection can be passed on: far is what the predecessor has of it.
func (p *predecessor) client() (c net.Conn, far *sock.FD) {
	p.tb.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		p.tb.Fatal(err)
	}
	c = fileConn(p.tb, sock.Own(fds[0]))
	_ = c.SetDeadline(time.Now().Add(patience))
	return c, sock.Own(fds[1])
}

// pass gives a client's connection away.
func (p *predecessor) pass(far *sock.FD, received []byte) {
	p.tb.Helper()
	p.say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_CONNECTION, Received: received}, far)
	far.Close()
}

// leave tells the successor to serve.
func (p *predecessor) leave() {
	p.tb.Helper()
	p.say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_GO})
}

// TestPassedToOneThatEnds: a connection that was given to a successor gets a verdict also
// where that one is told to end before it has taken it. Which, depends on whether it drains
// by then.
func TestPassedToOneThatEnds(t *testing.T) {
	s := newSite(t, nil)
	next, first := successorOf(t, s, true, nil)
	first.leave()
	var clients []net.Conn
	for range 16 {
		c, far := first.client()
		first.pass(far, helloFor(t, usherClient, nil))
		clients = append(clients, c)
	}
	next.stop()
	next.serve()
	for _, c := range clients {
		if _, reply := readReply(t, c); reply.Refused == nil {
			t.Errorf("got %v, want a refusal", reply)
		}
		readEnd(t, c)
	}
	_ = next.end()
}

// TestPassedWhileDescriptorsAreShort: a connection that is lost because the successor's
// table is full costs no other one.
func TestPassedWhileDescriptorsAreShort(t *testing.T) {
	s := newSite(t, nil)
	next, first := successorOf(t, s, true, nil)
	next.serve()
	first.ready()
	first.leave()
	lost, far := first.client()
	good, goodFar := first.client()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	first.pass(far, helloFor(t, usherClient, nil))
	testutil.WaitFor(t, "it has been read", func() bool {
		n, err := unix.IoctlGetInt(sock.Number(first.ch), unix.SIOCOUTQ)
		return err != nil || n == 0
	})
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	readEnd(t, lost)
	first.pass(goodFar, helloFor(t, usherClient, nil))
	readRefusal(t, good, wire.ErrorCode_ERROR_BACKEND_SPAWN_FAILED, "")
	next.stop()
	_ = next.end()
}

// successorProcess takes the place of the test's broker.
func successorProcess() error {
	of, err := broker.TakePredecessor()
	if err != nil {
		return err
	}
	dir := os.Getenv(envSocket)
	opts := options{
		Socket: filepath.Join(dir, "b.sock"), DefinitionDir: filepath.Join(dir, "defs"), LogDir: filepath.Join(dir, "logs"),
		Logger: slog.New(slog.DiscardHandler), Predecessor: of, HelloRate: asOftenAsTheyLike,
	}
	if opts.BackendWait, err = time.ParseDuration(os.Getenv(envWait)); err != nil {
		return err
	}
	upgradable(&opts) // once more
	b, err := broker.Listen(opts)
	if err != nil {
		return err
	}
	return b.Serve(context.Background())
}

// asOftenAsTheyLike is the HelloRate of a broker whose clients, of one process, come without a pause.
const asOftenAsTheyLike = 1 << 30

// envWait is the successor's BackendWait.
const envWait = "USHER_TEST_WAIT"

// upgradable is an option of a site: its successor is another process.
func upgradable(o *options) {
	o.Successor = broker.Successor{
		Path: os.Args[0], Output: os.Stderr,
		Env: append(os.Environ(), "USHER_TEST_HELPER=successor", envSocket+"="+filepath.Dir(o.Socket), envWait+"="+o.BackendWait.String()),
	}
}

// upgrade has another process take the broker's place, until the test's end.
func (s *site) upgrade() (pid int) {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	pid, err := s.Upgrade(ctx)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(func() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		_, _ = syscall.Wait4(pid, nil, 0, nil)
	})
	return pid
}

// keptFromEnding has a handoff under way at the broker, which does not end before that is
// adopted.
func (s *site) keptFromEnding(version string) (b *fake, o *offered, client net.Conn) {
	s.tb.Helper()
	b, client = s.fake(version), s.dial()
	send(s.tb, client, helloFor(s.tb, usherClient, func(r *hello.Request) { r.Version = version }))
	return b, b.receive(), client
}

// TestPassedOn: a connection that comes to a broker that has a successor itself by then goes
// on to that one.
func TestPassedOn(t *testing.T) {
	s := newSite(t, nil)
	next, first := successorOf(t, s, true, upgradable)
	next.serve()
	first.ready()
	first.leave()
	testutil.WaitFor(t, "it serves", next.Begun)
	s.Pause() // the queue is its successor's
	b, o, underWay := next.keptFromEnding(demoVersion)
	next.upgrade()
	testutil.WaitFor(t, "it drains", next.Draining)
	c, far := first.client()
	first.pass(far, helloFor(t, usherClient, nil))
	readRefusal(t, c, wire.ErrorCode_ERROR_BACKEND_SPAWN_FAILED, "")
	b.adopt(o)
	b.ack(o, nil)
	readHandedOver(t, underWay)
	if err := next.end(); err != nil {
		t.Error(err)
	}
	_ = b.ch.Close()
}

// TestRegistrationDuringUpgrade: who was being verified when the successor took over
// registers with that one, and is not kept by the broker that goes.
func TestRegistrationDuringUpgrade(t *testing.T) {
	s := newSite(t, upgradable)
	dir, answer := hungFileSystem(t)
	s.write("hung.toml", fmt.Sprintf("binary_path = %q\nper_version_binary_dir = %q\n", filepath.Join(dir, "binary"), filepath.Dir(ownBinary(t))))
	b := s.fake(demoVersion)
	underWay := s.dial()
	send(t, underWay, helloFor(t, usherClient, nil))
	o := b.receive() // keeps the broker from ending
	c := s.dial()
	send(t, c, bytesOf(t, frame.RegisterRequest(&wire.Register{ServiceName: "hung", ServiceVersion: demoVersion, BackendPipe: s.pipe("hung")})))
	testutil.WaitFor(t, "both are under way", func() bool { n, _ := s.Pending(); return n == 2 })
	s.upgrade()
	testutil.WaitFor(t, "it drains", s.Draining)
	answer()
	registered, err := frame.ParseRegistered(readFrame(t, c))
	if err != nil || registered.Accepted {
		t.Errorf("got %v, %v", registered, err)
	}
	b.adopt(o)
	b.ack(o, nil)
	readHandedOver(t, underWay)
	if err := s.end(); err != nil {
		t.Error(err)
	}
	_ = b.ch.Close()
}

// TestOwnDeadlineBeforeOrphans: who has less time than instances of the predecessor have to
// register is refused at the end of it, and does not keep the loop busy until then.
func TestOwnDeadlineBeforeOrphans(t *testing.T) {
	s := newSite(t, nil)
	s.defineStart("/bin/true", "", "") // it is small, and soon read
	next, first := successorOf(t, s, true, func(o *options) {
		o.HelloTimeout, o.LogDir = time.Second, filepath.Join(s.dir, "logs")
	})
	next.serve()
	first.ready()
	first.leave()
	testutil.WaitFor(t, "it serves", next.Begun)
	next.KeepWaiting()
	c, far := first.client()
	first.pass(far, helloFor(t, usherClient, nil))
	readRefusal(t, c, wire.ErrorCode_ERROR_BACKEND_SPAWN_FAILED, "")
	if n := next.Waits(); n > 1 {
		t.Errorf("it began to wait %d times", n)
	}
	next.stop()
	_ = next.end()
}

// TestOrphansAreCounted: a successor waits for as many backends as its predecessor says, and
// no longer.
func TestOrphansAreCounted(t *testing.T) {
	for _, come := range []uint32{0, 2} {
		t.Run(strconv.Itoa(int(come)), func(t *testing.T) {
			s := newSite(t, nil)
			next, first := successorOf(t, s, true, nil)
			next.serve()
			first.ready()
			first.say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_GO, Backends: come})
			testutil.WaitFor(t, "it serves", next.Begun)
			next.KeepWaiting()
			s.Pause() // the queue is its successor's
			for n := range come {
				if !next.OrphansAwaited() {
					t.Errorf("waits no more behind %d of %d", n, come)
				}
				b := next.fake(fmt.Sprintf("1.0.%d", n))
				defer b.ch.Close()
			}
			if next.OrphansAwaited() {
				t.Error("waits for more than come")
			}
			next.stop()
			_ = next.end()
		})
	}
}

// TestStatusWaitsForOrphans: who asks just behind an upgrade is told of the backends that
// are about to register.
func TestStatusWaitsForOrphans(t *testing.T) {
	s := newSite(t, nil)
	next, first := successorOf(t, s, true, nil)
	next.serve()
	first.ready()
	first.say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_GO, Backends: 1})
	testutil.WaitFor(t, "it serves", next.Begun)
	next.KeepWaiting()
	s.Pause() // the queue is its successor's
	told := make(chan int)
	go func() { told <- len(next.instances()) }()
	testutil.WaitFor(t, "the question waits", func() bool { return next.WaitForOrphans() == 1 })
	b := next.fake(demoVersion)
	defer b.ch.Close()
	if n := <-told; n != 1 {
		t.Errorf("told of %d instances", n)
	}
	next.stop()
	_ = next.end()
}

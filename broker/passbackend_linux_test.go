package broker_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/filehash"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/transport"
	"github.com/seed-7265657e/usher/internal/wire"
)

// upgradeAgain has the broker that serves now replaced.
func (s *site) upgradeAgain(before int) {
	s.tb.Helper()
	reply := s.admin(wire.AdminVerb_ADMIN_VERB_UPGRADE, func(req *wire.AdminRequest) { req.Json = false })
	pid := 0
	if _, err := fmt.Sscanf(reply.Body, "broker %d serves", &pid); err != nil {
		s.tb.Fatalf("%v: %s", err, reply.Body)
	}
	s.tb.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	testutil.WaitFor(s.tb, "the one before has ended", func() bool {
		ended, err := syscall.Wait4(before, nil, syscall.WNOHANG, nil)
		return ended == before || err != nil
	})
}

// registrations counts how often a backend of the SDK says that it has registered.
type registrations struct {
	slog.Handler
	n *atomic.Int32
}

func (r registrations) Enabled(context.Context, slog.Level) bool { return true }

func (r registrations) Handle(_ context.Context, line slog.Record) error {
	if strings.HasPrefix(line.Message, "registered with") {
		r.n.Add(1)
	}
	return nil
}

// counted runs a backend of the SDK in this process, which echoes.
func (s *site) counted(version string) (registered *atomic.Int32) {
	s.tb.Helper()
	registered = new(atomic.Int32)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	l, err := backend.Listen(ctx, backend.Options{
		Service: demo, Version: version, Broker: s.Socket(), Pipe: filepath.Join(s.dir, "counted-"+version),
		Logger: slog.New(registrations{slog.DiscardHandler, registered}),
	})
	if err != nil {
		s.tb.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); echo(l) }()
	s.later = append(s.later, func() {
		_ = l.Close()
		<-done
	})
	if err := l.WaitRegistered(ctx); err != nil {
		s.tb.Fatal(err)
	}
	return registered
}

// echoed has a backend that echoes served: with early data, and without.
func (s *site) echoed(version string) {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	opts := client.Options{Service: demo, Version: version, Broker: s.Socket()}
	for _, early := range []string{"early\n", ""} {
		c, err := client.DialWith(ctx, opts, []byte(early))
		if err == nil && early == "" {
			_, err = c.Write([]byte("late\n"))
		}
		if err != nil {
			s.tb.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || c.Route() != client.HandedOver || line != "early\n" && early != "" {
			s.tb.Errorf("got %q, %v, by %v", line, err, c.Route())
		}
		_ = c.Close()
	}
}

// TestChannelsPass: a backend does not register again when its broker is replaced, once or
// twice; its clients are handed over on the channel that it has.
func TestChannelsPass(t *testing.T) {
	testutil.Needs(t, "pidfds, which are passed on with a channel")
	s := newSite(t, upgradable)
	b := s.fake("2.0.0") // takes claims that are descriptors
	registered := s.counted(demoVersion)
	s.echoed(demoVersion)
	next := s.upgrade()
	if err := s.end(); err != nil {
		t.Error(err)
	}
	hand := func() {
		t.Helper()
		c := s.dial()
		send(t, c, helloFor(t, usherClient, func(r *hello.Request) { r.Version = "2.0.0" }))
		o := b.receive()
		b.adopt(o)
		b.ack(o, nil)
		readHandedOver(t, c)
	}
	for range 3 {
		s.echoed(demoVersion)
		hand()
	}
	s.upgradeAgain(next)
	for range 3 {
		s.echoed(demoVersion)
		hand()
	}
	if n := registered.Load(); n != 1 {
		t.Errorf("it registered %d times", n)
	}
}

// TestChannelPassesBehindItsHandoff: what is under way when the broker is replaced is settled
// there, once; then the channel passes.
func TestChannelPassesBehindItsHandoff(t *testing.T) {
	testutil.Needs(t, "pidfds, which are passed on with a channel")
	s := newSite(t, func(o *options) { o.BackendWait = patience; upgradable(o) })
	b := s.fake(demoVersion)
	underWay := s.dial()
	send(t, underWay, helloFor(t, usherClient, nil))
	o := b.receive()
	s.upgrade()
	waits := s.dial() // for the channel
	send(t, waits, helloFor(t, usherClient, nil))
	b.adopt(o)
	b.ack(o, nil)
	readHandedOver(t, underWay)
	if err := s.end(); err != nil {
		t.Error(err)
	}
	next := b.receive()
	if next.HandoffId <= o.HandoffId {
		t.Errorf("the second broker's offer has number %d, the first one's %d", next.HandoffId, o.HandoffId)
	}
	b.ack(o, nil) // again, and late: nobody's
	b.adopt(next)
	b.ack(next, nil)
	readHandedOver(t, waits)
	s.handsTo(b)
}

// TestWaitingConnectionPasses: who waits for a backend waits on at the successor.
func TestWaitingConnectionPasses(t *testing.T) {
	s := newSite(t, func(o *options) { o.BackendWait = patience; upgradable(o) })
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	testutil.WaitFor(t, "it waits", func() bool { return s.PutOff() == 1 })
	s.upgrade()
	if err := s.end(); err != nil {
		t.Error(err)
	}
	b := s.fake(demoVersion)
	o := b.receive()
	b.adopt(o)
	b.ack(o, nil)
	readHandedOver(t, c)
}

// TestSilentBackendRegisters: the channel of a backend that has left an offer unanswered does
// not pass: that it registers shows that it lives.
func TestSilentBackendRegisters(t *testing.T) {
	s := newSite(t, func(o *options) { o.AckDeadline = 50 * time.Millisecond; upgradable(o) })
	b := s.fake(demoVersion)
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	b.receive().fds.Close()
	readSentAway(t, c, b.pipe)
	s.settle()
	s.upgrade()
	b.ended()
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

// TestStartedInstancePasses: an instance that a broker has started is the next one's, with its
// log, and its end is seen there.
func TestStartedInstancePasses(t *testing.T) {
	testutil.Needs(t, "pidfds, which are passed on with a channel")
	s := newSite(t, func(o *options) {
		o.LogDir, o.BackendWait = filepath.Join(filepath.Dir(o.Socket), "logs"), patience
		upgradable(o)
	})
	s.defineStart(ownBinary(t), "", "")
	pid := pidOf(t, s.mustAsk(demoVersion))
	before := s.instances()
	s.upgrade()
	t.Cleanup(func() { // before their broker ends
		for _, i := range s.instances() {
			_ = syscall.Kill(i.PID, syscall.SIGKILL)
		}
	})
	if err := s.end(); err != nil {
		t.Error(err)
	}
	after := s.instances()
	if len(after) != 1 || after[0].PID != pid || after[0].Log == "" || after[0].Log != before[0].Log {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if got := pidOf(t, s.mustAsk(demoVersion)); got != pid {
		t.Errorf("served by %d, before by %d", got, pid)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_, _ = syscall.Wait4(pid, nil, 0, nil)
	if got := pidOf(t, s.mustAsk(demoVersion)); got == pid {
		t.Errorf("served by %d, which has been killed", got)
	}
}

// TestBusyPasses: a backend that has said that it is at work, once, is known to be at the next
// broker.
func TestBusyPasses(t *testing.T) {
	testutil.Needs(t, "pidfds, which are passed on with a channel")
	s := newSite(t, upgradable)
	b := s.fake(demoVersion)
	busy, err := frame.Append(nil, frame.ChannelNote(&wire.Note{Kind: wire.NoteKind_NOTE_KIND_BUSY}))
	if err == nil {
		err = b.ch.Send(busy)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.seenBusy("ready")
	s.upgrade()
	if err := s.end(); err != nil {
		t.Error(err)
	}
	if all := s.instances(); len(all) != 1 || !all[0].Busy {
		t.Errorf("got %+v", all)
	}
}

// backend is one that the test's word passes: its end of the channel, and what travels.
func (p *predecessor) backend() (far *sock.Channel, b *wire.PassedBackend, with []sock.Lender) {
	p.tb.Helper()
	ch, end, err := transport.NewChannel(handoff.NewTable(handoff.DefaultConfig()))
	if err != nil {
		p.tb.Fatal(err)
	}
	passed, err := ch.Pass()
	if err != nil {
		p.tb.Fatal(err)
	}
	self, err := peer.OpenPID(os.Getpid())
	if err != nil {
		p.tb.Fatal(err)
	}
	defer self.Close()
	process, err := self.Share()
	if err != nil {
		p.tb.Fatal(err)
	}
	hash, err := new(filehash.Cache).Hash(context.Background(), ownBinary(p.tb))
	if err != nil {
		p.tb.Fatal(err)
	}
	far = sock.NewChannel(end)
	p.tb.Cleanup(func() {
		ch.Retire()
		process.Close()
		_ = far.Close()
	})
	return far, &wire.PassedBackend{
		Instance: "shared", Service: demo, Version: demoVersion, BackendPipe: "/nonexistent", ExePath: ownBinary(p.tb),
		ExeHash: hash[:], SinceMs: 1, Capabilities: 1,
	}, []sock.Lender{passed.Conn, process}
}

// settled waits until the successor knows all that has been passed.
func (p *predecessor) settled() {
	p.tb.Helper()
	c, far := p.client()
	p.pass(far, helloFor(p.tb, noHandoff, func(r *hello.Request) { r.Service = "unknown" }))
	_, _ = readReply(p.tb, c)
}

// TestBackendThatIsNotTaken: one that is passed incompletely, or before its time, costs
// nothing but its channel, and those behind it are taken.
func TestBackendThatIsNotTaken(t *testing.T) {
	testutil.Needs(t, "pidfds, which are passed on with a channel")
	s := newSite(t, nil)
	next, first := successorOf(t, s, true, func(o *options) { o.MaxBackends = 2 })
	next.serve()
	first.ready()
	pass := func(change func(b *wire.PassedBackend, with []sock.Lender) []sock.Lender) {
		t.Helper()
		_, b, with := first.backend()
		if change != nil {
			with = change(b, with)
		}
		first.say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_BACKEND, Backend: wire.Marshal(b)}, with...)
	}
	pass(nil) // before GO
	first.leave()
	testutil.WaitFor(t, "it serves", next.Begun)
	s.Pause() // the queue is its successor's
	if n := next.Backends(); n != 0 {
		t.Errorf("%d were taken before their time", n)
	}
	for name, change := range map[string]func(b *wire.PassedBackend, with []sock.Lender) []sock.Lender{
		"no process": func(_ *wire.PassedBackend, with []sock.Lender) []sock.Lender { return with[:1] },
		"no pidfd":   func(_ *wire.PassedBackend, with []sock.Lender) []sock.Lender { return []sock.Lender{with[0], with[0]} },
		"nothing":    func(*wire.PassedBackend, []sock.Lender) []sock.Lender { return nil },
		"no page":    func(b *wire.PassedBackend, with []sock.Lender) []sock.Lender { b.ClaimPage = true; return with },
		"another page": func(b *wire.PassedBackend, with []sock.Lender) []sock.Lender {
			b.ClaimPage = true
			return append(with, with[1])
		},
		"a short hash": func(b *wire.PassedBackend, with []sock.Lender) []sock.Lender { b.ExeHash = b.ExeHash[1:]; return with },
		"a long hash": func(b *wire.PassedBackend, with []sock.Lender) []sock.Lender {
			b.ExeHash = make([]byte, 33)
			return with
		},
		"no service": func(b *wire.PassedBackend, with []sock.Lender) []sock.Lender { b.Service = ""; return with },
		"no version": func(b *wire.PassedBackend, with []sock.Lender) []sock.Lender { b.Version = "x"; return with },
		"own build": func(b *wire.PassedBackend, with []sock.Lender) []sock.Lender {
			b.OwnBuild = []byte{10, 1, 'k'}
			return with
		},
		"bad build":   func(b *wire.PassedBackend, with []sock.Lender) []sock.Lender { b.OwnBuild = []byte{1}; return with },
		"high number": func(b *wire.PassedBackend, with []sock.Lender) []sock.Lender { b.HandoffId = ^uint64(0); return with },
	} {
		pass(change)
		first.settled()
		if n := next.Backends(); n != 0 {
			t.Fatalf("%s: it is taken", name)
		}
	}
	first.say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_BACKEND, Backend: []byte{1}})
	for n := range 3 {
		pass(func(b *wire.PassedBackend, with []sock.Lender) []sock.Lender {
			b.Version, b.BackendPipe = fmt.Sprintf("1.0.%d", n), fmt.Sprint("/nonexistent/", n)
			return with
		})
	}
	first.settled()
	if n := next.Backends(); n != 2 {
		t.Errorf("%d are taken, and there is room for two", n)
	}
	next.stop()
	_ = next.end()
}

// TestBackendIsTaken: one that is passed counts among those that come, gets the clients that
// wait for it, and keeps its log within its bound until it leaves.
func TestBackendIsTaken(t *testing.T) {
	testutil.Needs(t, "pidfds, which are passed on with a channel")
	s := newSite(t, nil)
	next, first := successorOf(t, s, true, func(o *options) { o.BackendWait = patience })
	next.serve()
	first.ready()
	first.say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_GO, Backends: 1})
	testutil.WaitFor(t, "it serves", next.Begun)
	s.Pause() // the queue is its successor's
	c, conn := first.client()
	first.pass(conn, helloFor(t, usherClient, nil))
	testutil.WaitFor(t, "it waits", func() bool { return next.PutOff() == 1 })
	far, b, with := first.backend()
	b.Log = filepath.Join(s.dir, "its.log")
	if err := os.WriteFile(b.Log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	first.say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_BACKEND, Backend: wire.Marshal(b)}, with...)
	it := &fake{tb: t, ch: far}
	o := it.receive()
	it.adopt(o)
	it.ack(o, nil)
	readHandedOver(t, c)
	if next.OrphansAwaited() || next.LogsWatched() != 1 {
		t.Errorf("others are awaited: %t, logs are watched: %d", next.OrphansAwaited(), next.LogsWatched())
	}
	_, _, other := first.backend()
	first.say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_BACKEND, Backend: wire.Marshal(b)}, other...)
	first.settled()
	if n := next.Backends(); n != 1 {
		t.Errorf("it is taken twice: %d are known", n)
	}
	_ = far.Close()
	testutil.WaitFor(t, "it has left", func() bool { return next.Backends() == 0 && next.LogsWatched() == 0 })
	if n := next.Leaving(); n != 0 { // its process, which is this one, lives on
		t.Errorf("%d drain", n)
	}
	next.stop()
	_ = next.end()
}

// TestBackendPassedToOneThatEnds: it is not taken, and keeps nobody from ending.
func TestBackendPassedToOneThatEnds(t *testing.T) {
	testutil.Needs(t, "pidfds, which are passed on with a channel")
	s := newSite(t, nil)
	next, first := successorOf(t, s, true, nil)
	next.serve()
	first.ready()
	first.leave()
	testutil.WaitFor(t, "it serves", next.Begun)
	s.Pause() // the queue is its successor's
	b, o, underWay := next.keptFromEnding(demoVersion)
	next.stop()
	testutil.WaitFor(t, "it drains", next.Draining)
	_, passed, with := first.backend()
	first.say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_BACKEND, Backend: wire.Marshal(passed)}, with...)
	first.settled()
	if n := next.Backends(); n != 1 {
		t.Errorf("it is taken: %d are known", n)
	}
	b.adopt(o)
	b.ack(o, nil)
	readHandedOver(t, underWay)
	if err := next.end(); err != nil {
		t.Error(err)
	}
	_ = b.ch.Close()
}

// TestBackendPassedOn: one that is passed to a broker that has a successor itself by then goes
// on to that one.
func TestBackendPassedOn(t *testing.T) {
	testutil.Needs(t, "pidfds, which are passed on with a channel")
	s := newSite(t, nil)
	next, first := successorOf(t, s, true, func(o *options) { o.BackendWait = patience; upgradable(o) })
	next.serve()
	first.ready()
	first.leave()
	testutil.WaitFor(t, "it serves", next.Begun)
	s.Pause() // the queue is its successor's
	b, o, underWay := next.keptFromEnding("2.0.0")
	next.upgrade()
	testutil.WaitFor(t, "it drains", next.Draining)
	far, passed, with := first.backend()
	first.say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_BACKEND, Backend: wire.Marshal(passed)}, with...)
	s.handsTo(&fake{tb: t, ch: far})
	b.adopt(o)
	b.ack(o, nil)
	readHandedOver(t, underWay)
	if err := next.end(); err != nil {
		t.Error(err)
	}
	_ = b.ch.Close()
}

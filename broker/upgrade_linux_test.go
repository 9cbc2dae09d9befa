package broker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// oddSuccessor is a process that is to take a broker's place, and does not: envMode says how
// far it gets.
func oddSuccessor() error {
	fd, err := sock.Inherited(os.Getenv(broker.HandoverVariable))
	if err != nil {
		return err
	}
	first, told := sock.NewChannel(fd), filepath.Join(os.Getenv(envSocket), "told")
	hear := func() error {
		msg, err := first.Recv()
		msg.FDs.Close()
		return err
	}
	say := func(h *wire.Handover) error {
		msg, err := frame.Append(nil, frame.HandoverEvent(h))
		return errors.Join(err, first.Send(msg))
	}
	if err := hear(); err != nil {
		return err
	}
	switch os.Getenv(envMode) {
	case "of another format":
		return errors.Join(say(&wire.Handover{Kind: 99, Format: 99}), hear())
	case "hangs before READY":
		return errors.Join(untilTold(told), hear())
	}
	if os.Getenv(envMode) == "knows programs" {
		err := say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_READY, Capabilities: frame.CapTaken | frame.CapSockets | frame.CapPrograms})
		for err == nil {
			err = hear()
		}
		return err
	}
	if os.Getenv(envMode) == "listens at its end" {
		end := make(chan os.Signal, 1)
		signal.Notify(end, syscall.SIGTERM)
		if err := say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_READY, Capabilities: frame.CapTaken | frame.CapSockets}); err != nil {
			return err
		}
		msg, err := first.Recv()
		<-end
		return errors.Join(err, unix.Listen(sock.Number(msg.FDs.Take(0)), 1))
	}
	if os.Getenv(envMode) == "reads when told" {
		err := errors.Join(say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_READY, Capabilities: frame.CapTaken | frame.CapSockets}), untilTold(told))
		for err == nil {
			var msg sock.Message
			if msg, err = first.Recv(); err != nil {
				break
			}
			msg.FDs.Close()
			f, err := msg.Frame()
			if err != nil {
				return err
			}
			if h, err := frame.ParseHandover(f); err != nil || h.Kind == wire.HandoverKind_HANDOVER_KIND_GO {
				return errors.Join(err, say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_TAKEN}))
			}
		}
		return err
	}
	err = errors.Join(say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_READY, Capabilities: frame.CapTaken}), hear())
	switch os.Getenv(envMode) {
	case "hangs behind GO":
		err = errors.Join(err, hear()) // nothing comes
	case "takes when told":
		err = errors.Join(err, untilTold(told), say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_TAKEN}))
		return errors.Join(err, sendBack(first))
	}
	return err
}

// sendBack sends the one connection that is passed what was read from it, when all has come.
func sendBack(first *sock.Channel) error {
	var received []byte
	var conn *sock.Conn
	for {
		msg, err := first.Recv()
		if err != nil {
			break
		}
		f, err := msg.Frame()
		if err != nil {
			return err
		}
		h, err := frame.ParseHandover(f)
		if err != nil || h.Kind != wire.HandoverKind_HANDOVER_KIND_CONNECTION {
			return errors.Join(err, fmt.Errorf("%s has come", h.Kind))
		}
		received, conn = h.Received, msg.FDs.TakeConn(0)
	}
	_, err := conn.Write(received)
	return err
}

// untilTold tells the test, which listens at path, that this process is there, and waits for
// its word.
func untilTold(path string) error {
	c, err := net.Dial("unix", path)
	if err == nil {
		_, err = io.Copy(io.Discard, c)
	}
	return err
}

// told is where an odd successor waits for the test's word.
func (s *site) told() net.Listener {
	s.tb.Helper()
	l, err := net.Listen("unix", filepath.Join(s.dir, "told"))
	if err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(func() { _ = l.Close() })
	return l
}

// oddly has an odd successor take the broker's place.
func oddly(mode string) func(*options) {
	return func(o *options) {
		o.Successor = broker.Successor{
			Path: os.Args[0], Env: append(os.Environ(), "USHER_TEST_HELPER=odd successor", envMode+"="+mode, envSocket+"="+filepath.Dir(o.Socket)), Output: os.Stderr,
		}
	}
}

// lock returns what people read in the lock file, and whether somebody has the lock.
func (s *site) lock() (pid string, held bool) {
	s.tb.Helper()
	f, err := os.OpenFile(s.Socket()+".lock", os.O_RDWR, 0)
	if err != nil {
		s.tb.Fatal(err)
	}
	defer f.Close()
	held = errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
	b, _ := os.ReadFile(f.Name())
	return strings.TrimSpace(string(b)), held
}

// handsTo has a client given to the backend, which adopts it.
func (s *site) handsTo(b *fake) {
	s.tb.Helper()
	c := s.dial()
	send(s.tb, c, helloFor(s.tb, usherClient, nil))
	o := b.receive()
	b.adopt(o)
	b.ack(o, nil)
	readHandedOver(s.tb, c)
}

// TestUpgradeThatComesToNothing: a successor that answers in a way that is not known, that
// ends, or that hangs, before or behind GO, leaves the broker serving, with its socket, its
// lock, and its backends on the channels that they have.
func TestUpgradeThatComesToNothing(t *testing.T) {
	for mode, want := range map[string]string{
		"of another format":  "answered with 99",
		"hangs before READY": "gave no answer: context canceled",
		"ends behind GO":     "did not begin: EOF",
		"hangs behind GO":    "did not begin: context canceled",
	} {
		t.Run(mode, func(t *testing.T) {
			s := newSite(t, oddly(mode))
			told := s.told()
			b := s.fake(demoVersion)
			s.handsTo(b)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			ended := make(chan error)
			go func() {
				_, err := s.Upgrade(ctx)
				ended <- err
			}()
			switch mode {
			case "hangs before READY":
				if c, err := told.Accept(); err != nil {
					t.Fatal(err)
				} else {
					defer c.Close()
				}
			case "hangs behind GO":
				testutil.WaitFor(t, "its place is offered", s.Offered)
			}
			var since time.Time
			if strings.HasPrefix(mode, "hangs") {
				s.handsTo(b) // it serves meanwhile
				since = time.Now()
				cancel()
			}
			if err := <-ended; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
			if waited := time.Since(since); !since.IsZero() && waited > 4*time.Second { // its own limits are above
				t.Errorf("it waits for %v behind the end of who asked", waited)
			}
			if pid, held := s.lock(); !held || pid != fmt.Sprint(os.Getpid()) {
				t.Errorf("the lock is held: %t, and the file says %q", held, pid)
			}
			s.handsTo(b)
			if s.Offered() || s.Draining() {
				t.Error("the broker does not go on as before")
			}
		})
	}
}

// endedBeforeTaken is a context that has ended, and what a successor says when it begins.
func endedBeforeTaken(t *testing.T) (ctx context.Context, taken []byte) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	taken, err := frame.Append(nil, frame.HandoverEvent(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_TAKEN}))
	if err != nil {
		t.Fatal(err)
	}
	return ctx, taken
}

// TestTakenJustInTime: a successor that has said that it begins does, whatever happens to who
// waits for that; one that has not can't any more, or has ended.
func TestTakenJustInTime(t *testing.T) {
	testutil.Leaks(t)
	ctx, taken := endedBeforeTaken(t)
	for _, said := range []bool{false, true} {
		near, far, err := sock.Pair()
		if err != nil {
			t.Fatal(err)
		}
		next := sock.NewChannel(far)
		if said {
			if err := next.Send(taken); err != nil {
				t.Fatal(err)
			}
		}
		ended := false
		if err := broker.TakenBy(ctx, near, func() { ended = true }, func() bool { return true }); (err == nil) != said {
			t.Errorf("it has said so: %t, and the broker makes of it: %v", said, err)
		}
		if err := next.Send(taken); !said && !errors.Is(err, syscall.EPIPE) && !ended {
			t.Errorf("it can say so later: %v", err)
		}
		if ended != (testutil.Portable && !said) {
			t.Errorf("it has said so: %t, and it was ended: %t", said, ended)
		}
		if _, err := next.TryRecv(); !errors.Is(err, syscall.EAGAIN) { // its end would be the predecessor's
			t.Errorf("it reads %v", err)
		}
		_, _ = near.Close(), next.Close()
	}
}

// TestPlaceThatIsTaken: a successor that has it already is waited for, until it has said so or
// has ended.
func TestPlaceThatIsTaken(t *testing.T) {
	testutil.Leaks(t)
	ctx, taken := endedBeforeTaken(t)
	for _, says := range []bool{false, true} {
		near, far, err := sock.Pair()
		if err != nil {
			t.Fatal(err)
		}
		next, asked := sock.NewChannel(far), make(chan struct{})
		begun := make(chan error, 1)
		go func() { begun <- broker.TakenBy(ctx, near, func() {}, func() bool { close(asked); return false }) }()
		<-asked
		if says {
			if err := next.Send(taken); err != nil {
				t.Fatal(err)
			}
		} else {
			_ = next.Close()
		}
		if err := <-begun; (err == nil) != says {
			t.Errorf("it says so: %t, and the broker makes of it: %v", says, err)
		}
		_, _ = near.Close(), next.Close()
	}
}

// TestSuccessorThatIsGivenUp: it begins neither when it can't say so, nor when it is about to
// end; it does when its predecessor has ended.
func TestSuccessorThatIsGivenUp(t *testing.T) {
	testutil.Needs(t, "a peer that can be kept from saying more: who is given up is ended")
	s := newSite(t, nil)
	next, first := successorOf(t, s, true, nil)
	next.serve()
	first.ready()
	first.ch.EndReading()
	first.leave()
	testutil.WaitFor(t, "GO has been read", func() bool {
		n, err := unix.IoctlGetInt(sock.Number(first.ch), unix.SIOCOUTQ)
		return err != nil || n == 0
	})
	if next.Begun() {
		t.Error("it begins beside its predecessor")
	}
	_ = first.ch.Close()
	testutil.WaitFor(t, "it begins behind its predecessor", next.Begun)
	next.stop()
	_ = next.end()
}

// TestLockPasses: the successor has the lock from the moment on at which it begins, without a
// gap, and until it ends.
func TestLockPasses(t *testing.T) {
	s := newSite(t, upgradable)
	b := s.fake(demoVersion)
	underWay := s.dial()
	send(t, underWay, helloFor(t, usherClient, nil))
	o := b.receive() // keeps the broker from ending
	next := s.upgrade()
	its := fmt.Sprint(next)
	testutil.WaitFor(t, "the file names the successor", func() bool { pid, _ := s.lock(); return pid == its })
	b.adopt(o)
	b.ack(o, nil)
	readHandedOver(t, underWay)
	if err := s.end(); err != nil {
		t.Error(err)
	}
	if pid, held := s.lock(); !held || pid != its {
		t.Errorf("behind the end of the first: held %t, and the file says %q, not %s", held, pid, its)
	}
	if err := syscall.Kill(next, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "the lock is free", func() bool { _, held := s.lock(); return !held })
	_ = b.ch.Close()
}

// TestPutOffByAnUpgrade: while an upgrade is under way no instance is started, and no service
// verb begins; both go on where it fails.
func TestPutOffByAnUpgrade(t *testing.T) {
	for name, c := range map[string]struct {
		begin func(s *site) (done func())
		begun func(s *site) bool
	}{
		"start": {func(s *site) func() {
			c := s.dial()
			send(s.tb, c, helloFor(s.tb, usherClient, nil))
			return func() {
				_, reply := readReply(s.tb, c)
				if why := testutil.Refused(reply).Reason; !strings.Contains(why, "exited with code 1") {
					s.tb.Errorf("got %q", why)
				}
			}
		}, func(s *site) bool { return s.Starts() > 0 }},
		"verb": {func(s *site) func() {
			c := s.dial()
			send(s.tb, c, bytesOf(s.tb, adminFrame(wire.AdminVerb_ADMIN_VERB_SERVICE_PAUSE, func(req *wire.AdminRequest) { req.ServiceName = demo })))
			return func() { readFrame(s.tb, c) }
		}, func(s *site) bool { return s.Paused() > 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(o *options) {
				oddly("hangs behind GO")(o)
				o.LogDir = filepath.Join(filepath.Dir(o.Socket), "logs")
			})
			s.defineStart(ownBinary(t), "", "exits")
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_, _ = s.Upgrade(ctx)
			}()
			testutil.WaitFor(t, "its place is offered", s.Offered)
			done := c.begin(s)
			testutil.WaitFor(t, "it waits", func() bool { return s.PutOff() == 1 })
			if c.begun(s) {
				t.Error("it has begun, and the successor would not know")
			}
			cancel()
			<-ended
			done()
		})
	}
}

// TestEndedWhileOffered: a broker that is told to end when its place is offered to another does
// so when it is known who serves: the socket's name is the other's if that one does, and goes
// with this broker if not.
func TestEndedWhileOffered(t *testing.T) {
	for mode, taken := range map[string]bool{"takes when told": true, "hangs behind GO": false} {
		t.Run(mode, func(t *testing.T) {
			s := newSite(t, oddly(mode))
			told := s.told()
			c := s.dial() // which "takes when told" is given, and sends back
			testutil.WaitFor(t, "it is accepted", func() bool { n, _ := s.Pending(); return n == 1 })
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() {
				_, err := s.Upgrade(ctx)
				ended <- err
			}()
			var tell net.Conn
			if taken {
				var err error
				if tell, err = told.Accept(); err != nil {
					t.Fatal(err)
				}
			}
			testutil.WaitFor(t, "its place is offered", s.Offered)
			s.stop()
			testutil.WaitFor(t, "it waits with its end", s.EndPutOff)
			if _, err := os.Lstat(s.Socket()); err != nil || s.Draining() {
				t.Errorf("it ends before it is known who serves: %v", err)
			}
			if taken {
				_ = tell.Close()
			} else {
				cancel()
			}
			if err := <-ended; (err == nil) != taken {
				t.Errorf("the upgrade: %v", err)
			}
			if err := s.end(); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(s.Socket()); (err == nil) != taken {
				t.Errorf("behind its end the name: %v", err)
			}
			cancel()
			_ = c.Close()
		})
	}
}

// TestVerbGoesOn: a service verb that comes while an upgrade is under way is the successor's.
func TestVerbGoesOn(t *testing.T) {
	s := newSite(t, oddly("takes when told"))
	told := s.told()
	ended := make(chan error)
	go func() {
		_, err := s.Upgrade(context.Background())
		ended <- err
	}()
	tell, err := told.Accept()
	if err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "its place is offered", s.Offered)
	verb := bytesOf(t, adminFrame(wire.AdminVerb_ADMIN_VERB_SERVICE_PAUSE, func(req *wire.AdminRequest) { req.ServiceName = demo }))
	c := s.dial()
	send(t, c, verb)
	b := s.fake(demoVersion)
	testutil.WaitFor(t, "it waits", func() bool { return s.PutOff() == 1 })
	_ = tell.Close()
	b.ended() // the odd successor takes no channels
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := s.end(); err != nil {
		t.Error(err)
	}
	readExactly(t, c, string(verb))
}

// TestNewerBuildMeanwhile: a build that is seen while another upgrade is under way was not
// tried, and is when it is seen again.
func TestNewerBuildMeanwhile(t *testing.T) {
	s := newSite(t, func(o *options) { upgradable(o); o.Version = "1.0.0" })
	file, err := os.Open(ownBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	release := s.UpgradeUnderWay()
	s.Consider("1.0.1", file)
	testutil.WaitFor(t, "it counts as not tried", func() bool { return s.Tried() == 0 })
	release()
	s.Consider("1.0.1", file)
	if s.Tried() != 1 {
		t.Error("it is not tried")
	}
	if err := s.end(); err != nil { // another broker has taken its place, until the end of the test's own
		t.Error(err)
	}
	pid := 0
	testutil.WaitFor(t, "the file names it", func() bool {
		name, _ := s.lock()
		pid, _ = strconv.Atoi(name)
		return pid != 0 && pid != os.Getpid()
	})
	_ = syscall.Kill(pid, syscall.SIGKILL)
	_, _ = syscall.Wait4(pid, nil, 0, nil)
}

// TestVerbThatNeverBegan: a service verb whose broker ends before it knows its instances says
// that nothing was done.
func TestVerbThatNeverBegan(t *testing.T) {
	s := newSite(t, nil)
	next, first := successorOf(t, s, true, nil)
	next.serve()
	first.ready()
	first.say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_GO, Backends: 1})
	testutil.WaitFor(t, "it serves", next.Begun)
	next.KeepWaiting()
	s.Pause() // the queue is its successor's
	done := make(chan outcome)
	go func() { done <- next.control(verbStop, "", patience) }()
	testutil.WaitFor(t, "it waits", func() bool { return next.WaitForOrphans() == 1 })
	next.stop()
	if o := <-done; o.exit != 1 {
		t.Errorf("got %+v", o)
	}
	_ = next.end()
}

// TestIdleMeanwhile: a broker that is idle does not end while its place is offered, which would
// take the name from the successor; it does when nobody takes it.
func TestIdleMeanwhile(t *testing.T) {
	s := newSite(t, func(o *options) {
		oddly("hangs behind GO")(o)
		o.IdleExit, o.FirstHello = time.Nanosecond, time.Hour
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = s.Upgrade(ctx)
	}()
	testutil.WaitFor(t, "its place is offered", s.Offered)
	for range 20 { // time enough to end in between
		c := s.dial()
		send(t, c, helloFor(t, usherClient, nil))
		readRefusal(t, c, wire.ErrorCode_ERROR_BACKEND_SPAWN_FAILED, "")
	}
	if !s.Offered() || s.Draining() {
		t.Error("it ends")
	}
	cancel()
	<-ended
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

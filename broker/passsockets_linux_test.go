package broker_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// echoes reports whether who is reached at path echoes a line, and ends.
func echoes(path string) error {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	defer c.Close()
	return echoesOn(c)
}

func echoesOn(c *net.UnixConn) error {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "line\n"); err != nil {
		return err
	}
	_ = c.CloseWrite()
	if got, err := io.ReadAll(c); string(got) != "line\n" || err != nil {
		return fmt.Errorf("got %q, %w", got, err)
	}
	return nil
}

// TestUpgradePassesSockets: nobody who connects to the socket of a service while the broker is
// replaced is refused, and who waits goes on with the next broker.
func TestUpgradePassesSockets(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	s := newSite(t, func(o *options) {
		o.LogDir, o.BackendWait = filepath.Join(filepath.Dir(o.Socket), "logs"), patience
		upgradable(o) // last: the next broker waits as long
	})
	path, full := filepath.Join(s.dir, "plain"), filepath.Join(s.dir, "full")
	s.write(demo+".toml", fmt.Sprintf("binary_path = \"/bin/cat\"\n[start]\nmode = \"inetd\"\nlisten = %q\n", path))
	s.write("full.toml", fmt.Sprintf("binary_path = \"/bin/cat\"\n[start]\nmode = \"inetd\"\nlisten = %q\nmax_instances = 1\n", full))
	busy := s.awaitSocket(full)
	testutil.WaitFor(t, "its process runs", func() bool { return s.Processes() == 1 })
	waiting := s.awaitSocket(full)
	testutil.WaitFor(t, "one waits", func() bool { c, _ := s.Pending(); return c == 1 })
	_ = s.awaitSocket(path).Close()

	var over atomic.Bool
	failed := make(chan error)
	for range 2 {
		go func() {
			for !over.Load() {
				if err := echoes(path); err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
	}
	s.upgrade()
	if err := s.end(); err != nil {
		t.Error(err)
	}
	over.Store(true)
	for range 2 {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if err := echoesOn(busy); err != nil {
		t.Errorf("who was served: %v", err)
	}
	if err := echoesOn(waiting); err != nil { // until then it had no room
		t.Errorf("who waited: %v", err)
	}
	if err := echoes(path); err != nil {
		t.Error(err)
	}
	testutil.WaitFor(t, "the process of who waited has ended, and another may begin", func() bool { return echoes(full) == nil })
}

// TestPassedBeforeRelay: who is about to be joined to a program goes on with the next broker, and
// with the same program, unless that ends with the first broker.
func TestPassedBeforeRelay(t *testing.T) {
	s := newSite(t, func(o *options) {
		o.LogDir, o.AckDeadline, o.BackendWait = filepath.Join(filepath.Dir(o.Socket), "logs"), patience, patience
		upgradable(o)
	})
	told, address, plain := s.told(), filepath.Join(s.dir, "own"), filepath.Join(s.dir, "plain")
	s.write(demo+".toml", listening(t, "full until told", fmt.Sprintf("[start]\nmode = \"relay\"\naddress = %q\nlisten = %q", address, plain), address)+
		fmt.Sprintf("env.%s = %q\n", envSocket, s.dir))
	client := bufio.NewReader(s.awaitSocket(plain))
	tell, err := told.Accept()
	if err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "one is about to be joined", func() bool { return s.Relays() == 1 })
	first := s.instances()[0].PID
	s.upgrade()
	_ = tell.Close()
	line, err := client.ReadString('\n')
	if pid := pidOf(t, line); err != nil || (pid == first) == testutil.Portable {
		t.Errorf("process %d serves, with the first broker it was %d: %v", pid, first, err)
	}
	if err := s.end(); err != nil {
		t.Error(err)
	}
	if o := s.control(verbStop, "", patience); o.exit != 0 {
		t.Errorf("got %+v", o)
	}
	reaped(t, first)
}

// TestUpgradeOffersManySockets: an upgrade does not fail for more sockets than are on their
// way to the successor at once.
func TestUpgradeOffersManySockets(t *testing.T) {
	s := newSite(t, oddly("reads when told"))
	told := s.told()
	const many = 350
	for i := range many {
		name := fmt.Sprintf("service-%d", i)
		s.write(name+".toml", fmt.Sprintf("binary_path = \"/bin/cat\"\n[start]\nmode = \"inetd\"\nlisten = %q\n", filepath.Join(s.dir, name)))
	}
	testutil.WaitFor(t, "it listens", func() bool { return s.Plain() == many })
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
	_ = tell.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

// TestSocketsKept: the sockets of services are the broker's behind a successor that was given
// them, and did not begin, whatever that does with them until its end.
func TestSocketsKept(t *testing.T) {
	s := newSite(t, func(o *options) {
		oddly("listens at its end")(o)
		o.LogDir = filepath.Join(filepath.Dir(o.Socket), "logs")
	})
	path := filepath.Join(s.dir, "plain")
	s.write(demo+".toml", fmt.Sprintf("binary_path = \"/bin/cat\"\n[start]\nmode = \"inetd\"\nlisten = %q\n", path))
	_ = s.awaitSocket(path).Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = s.Upgrade(ctx)
	}()
	testutil.WaitFor(t, "its place is offered", s.Offered)
	cancel()
	<-ended
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if whose, err := sock.PeerOf(c); err != nil || whose.PID != os.Getpid() {
		t.Errorf("process %d listens, %v", whose.PID, err)
	}
	if err := echoesOn(c); err != nil {
		t.Error(err)
	}
}

// TestPassedSocketBlocks: a program that waits in accept, on a socket that the broker has
// bound for it, still does when a successor has got that.
func TestPassedSocketBlocks(t *testing.T) {
	s := newSite(t, nil)
	next, first := successorOf(t, s, true, nil)
	next.serve()
	first.ready()
	path := filepath.Join(s.dir, "passed")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := sock.ListenerOf(l)
	if err == nil {
		err = sock.SetNonblock(raw, false)
	}
	if err != nil {
		t.Fatal(err)
	}
	first.say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_SOCKET, Path: path, Service: demo, Version: demoVersion, Passed: true}, listener)
	first.leave()
	testutil.WaitFor(t, "it serves", next.Begun)
	flags := 0
	_ = raw.Control(func(fd uintptr) { flags, err = unix.FcntlInt(fd, unix.F_GETFL, 0) })
	if flags&unix.O_NONBLOCK != 0 || err != nil {
		t.Errorf("flags %#o, %v: accept does not wait any more", flags, err)
	}
	next.stop()
	_ = next.end()
}

// TestSocketOfPassedProgram: a broker does not look at the socket from which a program of its
// predecessor accepts by itself, until that has ended.
func TestSocketOfPassedProgram(t *testing.T) {
	testutil.Needs(t, "pidfds, which are passed on with a program")
	s := newSite(t, nil)
	next, first := successorOf(t, s, true, nil)
	next.serve()
	first.ready()
	path := filepath.Join(s.dir, "passed")
	s.write(demo+".toml", fmt.Sprintf("binary_path = \"/bin/sleep\"\n[start]\nmode = \"listen-fds\"\nlisten = %q\n", path))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	listener, err := sock.ListenerOf(l)
	if err != nil {
		t.Fatal(err)
	}
	first.say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_SOCKET, Path: path, Service: demo, Version: "0.0.0", Passed: true}, listener)
	running, b, process := first.program()
	b.Version, b.Address, b.Listen = "0.0.0", "", path
	first.sayProgram(b, process)
	first.leave()
	testutil.WaitFor(t, "it has both", func() bool { return next.Plain() == 1 && next.Backends() == 1 })
	if next.Watches(path) {
		t.Error("it looks at the socket")
	}
	_ = running.Process.Kill()
	_ = running.Wait()
	testutil.WaitFor(t, "it looks at the socket", func() bool { return next.Watches(path) })
	next.stop()
	_ = next.end()
}

// TestWantedMeanwhile: who comes to the socket of a program when it has been offered to a
// successor is that one's, and this broker's again where it does not begin.
func TestWantedMeanwhile(t *testing.T) {
	s := newSite(t, func(o *options) {
		oddly("listens at its end")(o)
		keepLogs(o)
	})
	path := filepath.Join(s.dir, "passed")
	s.write(demo+".toml", fmt.Sprintf("binary_path = %q\n[start]\nmode = \"listen-fds\"\nlisten = %q\nenv.USHER_TEST_HELPER = \"passed\"\n", ownBinary(t), path))
	testutil.WaitFor(t, "it listens", func() bool { return s.Plain() == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = s.Upgrade(ctx)
	}()
	testutil.WaitFor(t, "its place is offered", s.Offered)
	c := s.awaitSocket(path)
	for range 300 {
		if all := s.instances(); len(all) > 0 {
			t.Fatalf("instances %+v, of which the successor would not know", all)
		}
	}
	cancel()
	<-ended
	if line, err := bufio.NewReader(c).ReadString('\n'); word(line, "name") != demo || err != nil {
		t.Errorf("got %q, %v", line, err)
	}
}

// TestPlainPutOff: nothing is started for a client of a socket that has been offered to a
// successor, before it is known who serves him.
func TestPlainPutOff(t *testing.T) {
	s := newSite(t, func(o *options) {
		oddly("listens at its end")(o)
		keepLogs(o)
	})
	address, plain := filepath.Join(s.dir, "own"), filepath.Join(s.dir, "plain")
	s.write(demo+".toml", listening(t, "", fmt.Sprintf("[start]\nmode = \"relay\"\naddress = %q\nlisten = %q", address, plain), address))
	testutil.WaitFor(t, "it listens", func() bool { return s.Plain() == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = s.Upgrade(ctx)
	}()
	testutil.WaitFor(t, "its place is offered", s.Offered)
	c := s.awaitSocket(plain)
	testutil.WaitFor(t, "he waits", func() bool { return s.PutOff() == 1 })
	if s.Starts() > 0 {
		t.Error("a program is started, of which the successor would not know")
	}
	cancel()
	<-ended
	if line, err := bufio.NewReader(c).ReadString('\n'); word(line, "pid") == "" || err != nil {
		t.Errorf("got %q, %v", line, err)
	}
}

// TestPassedOnFromSocket: a connection of the socket of a service that comes to a broker which
// has a successor itself by then goes on to that one.
func TestPassedOnFromSocket(t *testing.T) {
	s := newSite(t, nil)
	next, first := successorOf(t, s, true, upgradable)
	next.serve()
	first.ready()
	path := filepath.Join(s.dir, "plain")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	listener, err := sock.ListenerOf(l)
	if err != nil {
		t.Fatal(err)
	}
	s.write("plain.toml", fmt.Sprintf("binary_path = \"/bin/cat\"\n[start]\nmode = \"inetd\"\nlisten = %q\n", path))
	first.say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_SOCKET, Path: path, Service: "plain", Version: "0.0.0"}, listener)
	first.leave()
	testutil.WaitFor(t, "it serves", next.Begun)
	s.Pause() // the queue is its successor's
	b, o, underWay := next.keptFromEnding(demoVersion)
	next.upgrade()
	testutil.WaitFor(t, "it drains", next.Draining)
	c, far := first.client()
	first.say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_CONNECTION, Path: path}, far)
	far.Close()
	if err := echoesOn(c.(*net.UnixConn)); err != nil {
		t.Error(err)
	}
	b.adopt(o)
	b.ack(o, nil)
	readHandedOver(t, underWay)
	if err := next.end(); err != nil {
		t.Error(err)
	}
	_ = b.ch.Close()
}

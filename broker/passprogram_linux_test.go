package broker_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// passedKinds are those of which one process serves all; relay with a port has everybody relayed.
var passedKinds = []string{"listen-fds", "relay", "port", "v1"}

// passable is a site whose service demo is of a kind, and whose broker can be replaced.
func passable(t *testing.T, kind string, wait time.Duration) (s *site, path string) {
	t.Helper()
	testutil.Needs(t, "pidfds, which are passed on with a program")
	t.Setenv("XDG_RUNTIME_DIR", testutil.SocketDir(t)) // of v1's pipes
	s = newSite(t, func(o *options) {
		keepLogs(o)
		o.BackendWait, o.HelloRate = wait, asOftenAsTheyLike
		upgradable(o)
	})
	all, path := kinds(t, s.dir)
	address := freePort(t)
	all["port"] = listening(t, "", fmt.Sprintf("[start]\nmode = \"relay\"\naddress = %q\nlisten = %q", address, path), address)
	s.write(demo+".toml", all[kind])
	return s, path
}

// reaped waits until a child of this process has ended, and been reaped here or by its broker.
func reaped(t *testing.T, pid int) {
	t.Helper()
	testutil.WaitFor(t, "the program has ended", func() bool {
		ended, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
		return ended == pid || errors.Is(err, syscall.ECHILD)
	})
}

// echoedBy reports whether the program at the other end of c answers on it.
func (s *site) echoedBy(c net.Conn) error {
	if _, err := io.WriteString(c, "more\n"); err != nil {
		return err
	}
	line := make([]byte, len("more\n"))
	_, err := io.ReadFull(c, line)
	return err
}

// TestProgramsPass: a program without a channel lives on when its broker is replaced, once and
// twice: with its connections, its log, its listening socket; no second one is started, its end
// is seen at the next broker, and who stops it there ends it. A broker that relays connections
// stays until they have ended.
func TestProgramsPass(t *testing.T) {
	for _, kind := range passedKinds {
		t.Run(kind, func(t *testing.T) {
			s, path := passable(t, kind, patience)
			first, pid := s.meet(kind, path)
			testutil.WaitFor(t, "it is known to be ready", func() bool { return s.Backends() == 1 })
			before := s.instances()
			lives := func() {
				t.Helper()
				if c, now := s.meet(kind, path); now != pid || c.Close() != nil {
					t.Errorf("process %d serves, before it was %d", now, pid)
				}
				if after := s.instances(); len(after) != 1 || after[0].PID != pid || after[0].Log == "" || after[0].Log != before[0].Log || after[0].State != "ready" {
					t.Errorf("before %+v, after %+v", before, after)
				}
			}
			next := s.upgrade()
			lives()
			if relayed := s.Joined(); relayed > 0 {
				if err := s.echoedBy(first); err != nil || relayed != 1 {
					t.Errorf("what is relayed by the first broker, %d: %v", relayed, err)
				}
				_ = first.Close()
				first = nil
			}
			if err := s.end(); err != nil {
				t.Error(err)
			}
			lives()
			s.upgradeAgain(next)
			lives()
			if first != nil {
				ask := s.echoedBy
				if kind == "v1" {
					ask = func(c net.Conn) error { _, err := s.answers(c); return err }
				}
				if err := ask(first); err != nil {
					t.Errorf("its first connection: %v", err)
				}
			}
			_ = os.Remove(filepath.Join(s.dir, "own")) // which this program does not do
			if o := s.control(verbRestart, "", patience); o.exit != 0 || len(o.Instances) != 2 || o.Instances[0].PID != pid && o.Instances[1].PID != pid {
				t.Errorf("got %+v", o)
			}
			reaped(t, pid)
			c, second := s.meet(kind, path)
			if second == pid || c.Close() != nil {
				t.Error("the one that was replaced serves")
			}
			if o := s.control(verbStop, "", patience); o.exit != 0 {
				t.Errorf("got %+v", o)
			}
		})
	}
}

// TestProgramsPassUnderLoad: clients that come without a pause while the broker is replaced are
// served, each of them, and by one process.
func TestProgramsPassUnderLoad(t *testing.T) {
	for _, kind := range passedKinds {
		t.Run(kind, func(t *testing.T) {
			s, path := passable(t, kind, patience)
			c, pid := s.meet(kind, path)
			_ = c.Close()
			var over atomic.Bool
			var served atomic.Int32
			failed := make(chan error)
			for range 2 {
				go func() {
					for !over.Load() {
						if err := s.servedBy(kind, path, pid); err != nil {
							failed <- err
							return
						}
						served.Add(1)
					}
					failed <- nil
				}()
			}
			more := func() {
				t.Helper()
				before := served.Load()
				testutil.WaitFor(t, "clients are served", func() bool { return served.Load() > before+2 })
			}
			more()
			next := s.upgrade()
			more()
			if err := s.end(); err != nil {
				t.Error(err)
			}
			s.upgradeAgain(next)
			more()
			over.Store(true)
			for range 2 {
				if err := <-failed; err != nil {
					t.Error(err)
				}
			}
			if o := s.control(verbStop, "", patience); o.exit != 0 {
				t.Errorf("got %+v", o)
			}
			reaped(t, pid)
		})
	}
}

// servedBy says why a client is not served by process pid.
func (s *site) servedBy(kind, path string, pid int) error {
	var c net.Conn
	var err error
	if kind == "v1" {
		c, err = s.dialWith("who\n")
	} else {
		c, err = net.Dial("unix", path)
	}
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || word(line, "pid") != fmt.Sprint(pid) {
		return fmt.Errorf("got %q, %w, from another than process %d", line, err, pid)
	}
	return nil
}

// running is how many processes of the service have a connection to themselves, by the word of
// the broker that serves.
func (s *site) running() (n int) {
	s.tb.Helper()
	var v struct{ Processes []struct{ Running int } }
	if err := json.Unmarshal([]byte(s.admin(wire.AdminVerb_ADMIN_VERB_STATUS, nil).Body), &v); err != nil {
		s.tb.Fatal(err)
	}
	for _, p := range v.Processes {
		n += p.Running
	}
	return n
}

// TestProcessesCountAtTheNext: processes that have a connection to themselves take their room
// at the next broker, and the one after that, until they end, which a stop there has them do;
// and what is joined to its connection stays so.
func TestProcessesCountAtTheNext(t *testing.T) {
	for _, mode := range []string{"inetd", "stdio"} {
		t.Run(mode, func(t *testing.T) {
			s, _ := passable(t, mode, 20*time.Millisecond)
			s.write(demo+".toml", fmt.Sprintf("binary_path = %q\n[start]\nmode = %q\nmax_instances = 1\nenv.USHER_TEST_HELPER = %q\n", ownBinary(t), mode, mode))
			begin := func() (c net.Conn, pid int) {
				t.Helper()
				var line string
				testutil.WaitFor(t, "there is room", func() bool {
					var err error
					if c, err = s.once(); err == nil {
						readFrame(t, c) // behind the reply
						line, err = bufio.NewReader(c).ReadString('\n')
					}
					return err == nil
				})
				return c, pidOf(t, line)
			}
			full := func() {
				t.Helper()
				if _, err := s.once(); err == nil || !strings.Contains(err.Error(), "all 1 processes") {
					t.Errorf("got %v", err)
				}
				if n := s.running(); n != 1 {
					t.Errorf("%d are counted", n)
				}
			}
			c, pid := begin()
			next := s.upgrade()
			full()
			if err := s.echoedBy(c); err != nil {
				t.Error(err)
			}
			if mode == "inetd" {
				if err := s.end(); err != nil {
					t.Error(err)
				}
			}
			s.upgradeAgain(next)
			full()
			if err := s.echoedBy(c); err != nil {
				t.Error(err)
			}
			_ = c.Close()
			reaped(t, pid)
			if mode == "stdio" {
				if err := s.end(); err != nil {
					t.Error(err)
				}
			}
			_, pid = begin()
			if o := s.control(verbStop, "", patience); o.exit != 0 || o.results() != "ended" || o.Instances[0].PID != pid {
				t.Errorf("got %+v", o)
			}
			testutil.WaitFor(t, "its room is free", func() bool { return s.running() == 0 })
		})
	}
}

// TestProcessAboutToStartCounts: an upgrade waits for a process that is just being started, so
// that the next broker counts it.
func TestProcessAboutToStartCounts(t *testing.T) {
	testutil.Needs(t, "pidfds, which are passed on with a program")
	s := newSite(t, func(o *options) { keepLogs(o); upgradable(o) })
	release := s.holdStarts(t)
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	testutil.WaitFor(t, "it is about to be started", func() bool { return s.Processes() == 1 })
	upgraded := make(chan int)
	go func() { upgraded <- s.upgrade() }()
	testutil.WaitFor(t, "another could serve", s.UpgradeAsked)
	if s.Offered() {
		t.Error("the upgrade does not wait for it")
	}
	release()
	<-upgraded
	if _, reply := readReply(t, c); reply.Refused != nil {
		t.Errorf("got %v", reply)
	}
	if err := s.end(); err != nil {
		t.Error(err)
	}
	if n := s.running(); n != 1 {
		t.Errorf("%d processes are counted", n)
	}
	_ = c.Close()
	testutil.WaitFor(t, "its room is free", func() bool { return s.running() == 0 })
}

// TestProcessesHeldBack: while another may be about to serve no process is started for a
// connection, which that one would not count; its client waits, and is served here where that
// one does not begin. An offer that comes to nothing leaves the programs to this broker, and
// their next offer.
func TestProcessesHeldBack(t *testing.T) {
	testutil.Needs(t, "pidfds, which are passed on with a program")
	s := newSite(t, func(o *options) { keepLogs(o); oddly("knows programs")(o) })
	path, passed := filepath.Join(s.dir, "plain"), filepath.Join(s.dir, "passed")
	s.defineInetd(ownBinary(t), fmt.Sprintf("listen = %q", path))
	s.write("other.toml", fmt.Sprintf("binary_path = %q\n[start]\nmode = \"listen-fds\"\nlisten = %q\nenv.USHER_TEST_HELPER = \"passed\"\n", ownBinary(t), passed))
	pid := s.whoAt(passed)
	testutil.WaitFor(t, "it is known to be ready", func() bool { return s.Backends() == 1 && s.Plain() == 2 })
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = s.Upgrade(ctx)
		}()
		testutil.WaitFor(t, "its place is offered", s.Offered)
		if n := s.ProgramsOffered(); n != 1 {
			t.Errorf("%d programs are offered", n)
		}
		hello, plain := s.dial(), s.awaitSocket(path)
		send(t, hello, helloFor(t, usherClient, nil))
		testutil.WaitFor(t, "both wait", func() bool { return s.PutOff() == 2 })
		if n := s.Processes(); n != 0 {
			t.Errorf("%d processes, of which the successor would not know", n)
		}
		cancel()
		<-ended
		if _, reply := readReply(t, hello); reply.Refused != nil {
			t.Errorf("got %v", reply)
		}
		if line, err := bufio.NewReader(plain).ReadString('\n'); word(line, "pid") == "" || err != nil {
			t.Errorf("got %q, %v", line, err)
		}
		if s.ProgramsOffered() != 0 || s.whoAt(passed) != pid {
			t.Error("the program is not the broker's as before")
		}
		_, _ = hello.Close(), plain.Close()
		testutil.WaitFor(t, "their processes have ended", func() bool { return s.Processes() == 0 })
	}
}

// TestOfferWithoutDescriptors: a program that can't be offered for want of descriptors, which
// passes, keeps this broker from giving way: it would end with it.
func TestOfferWithoutDescriptors(t *testing.T) {
	testutil.Needs(t, "pidfds, which are passed on with a program")
	s, path := passable(t, "relay", patience)
	_, _ = s.meet("relay", path)
	testutil.WaitFor(t, "it is known to be ready", func() bool { return s.Backends() == 1 })
	near, far, err := sock.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	defer far.Close()
	release := testutil.FillTable(t)
	err = s.OfferPrograms(near)
	release()
	if !errors.Is(err, syscall.EMFILE) || s.ProgramsOffered() != 0 {
		t.Errorf("got %v, and %d are offered", err, s.ProgramsOffered())
	}
	if err := s.OfferPrograms(near); err != nil || s.ProgramsOffered() != 1 {
		t.Errorf("got %v, and %d are offered", err, s.ProgramsOffered())
	}
}

// TestRoomOfWhatIsLeftBehind: what a process has left behind with its pipes keeps its room at the
// next broker, too.
func TestRoomOfWhatIsLeftBehind(t *testing.T) {
	s, _ := passable(t, "stdio", 20*time.Millisecond)
	s.write(demo+".toml", fmt.Sprintf("binary_path = %q\n[start]\nmode = \"stdio\"\nmax_instances = 1\n[start.env]\nUSHER_TEST_HELPER = \"stdio\"\n%s = \"leaves a child\"\n", ownBinary(t), envMode))
	c := s.mustDialWith("")
	lines := bufio.NewReader(c)
	who, err := lines.ReadString('\n')
	var child int
	if line, lineErr := lines.ReadString('\n'); err == nil && lineErr == nil {
		_, err = fmt.Sscanf(line, "child=%d", &child)
	}
	if err != nil {
		t.Fatal(err)
	}
	reaped(t, pidOf(t, who))
	testutil.WaitFor(t, "its end is known", func() bool { return s.ProcessesRunning() == 0 })
	s.upgrade()
	if n := s.Joined(); n != 1 {
		t.Errorf("%d connections are joined", n)
	}
	if _, err := s.once(); err == nil || !strings.Contains(err.Error(), "all 1 processes") {
		t.Errorf("got %v", err)
	}
	if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	if rest, err := io.ReadAll(lines); len(rest) > 0 || err != nil {
		t.Errorf("got %q, %v", rest, err)
	}
	if err := s.end(); err != nil {
		t.Error(err)
	}
	testutil.WaitFor(t, "its room is free", func() bool { return s.running() == 0 })
}

// TestStaysForRelayed: a broker that has been replaced ends behind what it relays, or when it is
// told to, and what it relays with it.
func TestStaysForRelayed(t *testing.T) {
	s, path := passable(t, "port", patience)
	c, pid := s.meet("port", path)
	testutil.WaitFor(t, "it is known to be ready", func() bool { return s.Backends() == 1 })
	s.upgrade()
	testutil.WaitFor(t, "it stays", s.Stays)
	if err := s.echoedBy(c); err != nil {
		t.Error(err)
	}
	s.stop()
	if err := s.end(); err != nil {
		t.Error(err)
	}
	readEnd(t, c)
	if got := s.whoAt(path); got != pid {
		t.Errorf("process %d serves, before it was %d", got, pid)
	}
	if o := s.control(verbStop, "", patience); o.exit != 0 {
		t.Errorf("got %+v", o)
	}
	reaped(t, pid)
}

// TestStaysForRelayedAlone: a broker that stays for what it relays asks for no backend any more,
// as its successor does.
func TestStaysForRelayedAlone(t *testing.T) {
	testutil.Needs(t, "pidfds, which are passed on with a program")
	s := newSite(t, func(o *options) {
		keepLogs(o)
		o.BackendWait, o.Static = patience, []broker.StaticBackend{{Service: demo, Version: demoVersion, Pipe: "/nonexistent"}}
		upgradable(o)
	})
	path, address := filepath.Join(s.dir, "plain"), freePort(t)
	s.write(demo+".toml", listening(t, "", fmt.Sprintf("[start]\nmode = \"relay\"\naddress = %q\nlisten = %q", address, path), address))
	c, _ := s.meet("port", path)
	asks := func() bool {
		stacks := make([]byte, 1<<20)
		return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), ".watchStatic(")
	}
	if testutil.WaitFor(t, "it is known to be ready", func() bool { return s.Backends() == 1 }); !asks() {
		t.Error("it asks for no backend while it serves")
	}
	s.upgrade()
	testutil.WaitFor(t, "it stays, and asks for none", func() bool { return s.Stays() && !asks() })
	if err := s.echoedBy(c); err != nil {
		t.Error(err)
	}
	if o := s.control(verbStop, "", patience); o.exit != 0 {
		t.Errorf("got %+v", o)
	}
}

package broker_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// What people do with programs that know nothing of usher.

// kinds are definitions of such, each with a plain socket at path, and one of the v1 protocol.
func kinds(tb testing.TB, dir string) (definitions map[string]string, path string) {
	path = filepath.Join(dir, "plain")
	program := func(helper, start string) string {
		return fmt.Sprintf("binary_path = %q\n[start]\n%s\nenv.USHER_TEST_HELPER = %q\n", ownBinary(tb), start, helper)
	}
	own, listen := filepath.Join(dir, "own"), fmt.Sprintf("listen = %q\n", path)
	return map[string]string{
		"inetd":      program("inetd", "mode = \"inetd\"\n"+listen),
		"stdio":      program("stdio", "mode = \"stdio\"\n"+listen),
		"listen-fds": program("passed", "mode = \"listen-fds\"\n"+listen),
		"relay":      program("listens", fmt.Sprintf("mode = \"relay\"\naddress = %q\nargs = [%q]\n", own, own)+listen),
		"v1":         program("v1 instance", `protocol = "v1"`),
	}, path
}

// programs is a site whose service demo is of a kind.
func programs(t *testing.T, kind string) (s *site, path string) {
	t.Helper()
	t.Setenv("XDG_RUNTIME_DIR", testutil.SocketDir(t)) // of v1's pipes
	s = newSite(t, func(o *options) {
		o.LogDir, o.BackendWait = filepath.Join(filepath.Dir(o.Socket), "logs"), patience
	})
	all, path := kinds(t, s.dir)
	s.write(demo+".toml", all[kind])
	return s, path
}

// meet is a connection to the service, with what its program has said first.
func (s *site) meet(kind, path string) (c net.Conn, pid int) {
	s.tb.Helper()
	if kind == "v1" {
		c = s.mustDialWith("")
		if _, err := io.WriteString(c, "who\n"); err != nil {
			s.tb.Fatal(err)
		}
	} else {
		c = s.awaitSocket(path)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	pid, numErr := strconv.Atoi(word(line, "pid"))
	if err != nil || numErr != nil {
		s.tb.Fatalf("got %q, %v", line, err)
	}
	return c, pid
}

var everyKind = []string{"inetd", "stdio", "listen-fds", "relay", "v1"}

// TestStopPrograms: the answer comes when their processes have ended, which see SIGTERM; the
// client sees the end of its connection, and the next one has them started again.
func TestStopPrograms(t *testing.T) {
	for _, kind := range everyKind {
		t.Run(kind, func(t *testing.T) {
			s, path := programs(t, kind)
			c, pid := s.meet(kind, path)
			testutil.WaitFor(t, "it is known to be ready", func() bool { return s.Backends()+s.Processes() == 1 })
			o := s.control(verbStop, "", patience)
			if o.exit != 0 || o.results() != "ended" || o.Instances[0].PID != pid || !strings.Contains(o.Text[0], "the next client starts") {
				t.Errorf("got %+v, of process %d", o, pid)
			}
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				t.Errorf("its process: %v", err)
			}
			if rest, err := io.ReadAll(c); len(rest) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("got %q, %v", rest, err)
			}
			_ = os.Remove(filepath.Join(s.dir, "own")) // which this program does not do
			if c, next := s.meet(kind, path); next == pid || c.Close() != nil {
				t.Errorf("process %d serves still", next)
			}
			if o := s.control(verbStop, "9.9.9", 0); o.exit != 0 || !strings.Contains(o.Text[0], "no instance") {
				t.Errorf("got %+v", o)
			}
			testutil.WaitFor(t, "no process is left", func() bool { return s.Processes() == 0 })
		})
	}
}

// TestRestartPrograms: one with a socket that two can have serves before the old one ends; one
// that has an address to itself follows the old one, and its clients wait; where each
// connection has a process, nothing is to be done.
func TestRestartPrograms(t *testing.T) {
	for kind, results := range map[string]string{"inetd": "", "stdio": "", "listen-fds": "started drains", "relay": "drains started", "v1": "started drains"} {
		t.Run(kind, func(t *testing.T) {
			s, path := programs(t, kind)
			_, pid := s.meet(kind, path)
			testutil.WaitFor(t, "it is known to be ready", func() bool { return s.Backends()+s.Processes() == 1 })
			_ = os.Remove(filepath.Join(s.dir, "own")) // which this program does not do
			o := s.control(verbRestart, "", patience)
			if o.exit != 0 || o.results() != results {
				t.Errorf("got %+v", o)
			}
			if results == "" {
				if !strings.Contains(o.Text[0], "a process of its own") || syscall.Kill(pid, 0) != nil {
					t.Errorf("got %+v", o)
				}
				return
			}
			awaitEnd(t, pid) // until then both may accept from the socket of listen-fds
			c, next := s.meet(kind, path)
			if o.Instances[0].PID != next && o.Instances[1].PID != next {
				t.Errorf("process %d serves, of %+v", next, o)
			}
			if line, err := s.answers(c); err != nil {
				t.Errorf("got %q, %v", line, err)
			}
		})
	}
}

// answers asks the program at the other end once more.
func (s *site) answers(c net.Conn) (string, error) {
	if _, err := io.WriteString(c, "more\n"); err != nil {
		return "", err
	}
	return bufio.NewReader(c).ReadString('\n')
}

// TestRestartProgramFails: where the new one does not come up, the old one goes on with the
// socket that both may have.
func TestRestartProgramFails(t *testing.T) {
	s, path := programs(t, "listen-fds")
	_, pid := s.meet("listen-fds", path)
	testutil.WaitFor(t, "it is known to be ready", func() bool { return s.Backends() == 1 })
	s.write(demo+".toml", fmt.Sprintf("binary_path = %q\n[start]\nmode = \"listen-fds\"\nlisten = %q\nnotify = true\nenv.USHER_TEST_HELPER = \"passed\"\nenv.%s = \"fails\"\n", ownBinary(t), path, envMode))
	o := s.control(verbRestart, "", patience)
	if o.exit != 1 || o.results() != "kept" || !strings.Contains(o.Instances[0].Text, "can't accept") {
		t.Errorf("got %+v", o)
	}
	if c, now := s.meet("listen-fds", path); now != pid || c.Close() != nil {
		t.Errorf("process %d serves, not %d", now, pid)
	}
}

// TestStopThatIgnoresIt: a program that ignores SIGTERM is ended.
func TestStopThatIgnoresIt(t *testing.T) {
	s, path := programs(t, "relay")
	own := filepath.Join(s.dir, "own")
	s.write(demo+".toml", listening(t, "ignores TERM", fmt.Sprintf("[start]\nmode = \"relay\"\naddress = %q\nlisten = %q", own, path), own))
	_, pid := s.meet("relay", path)
	testutil.WaitFor(t, "it is known to be ready", func() bool { return s.Backends() == 1 })
	begun := time.Now()
	if o := s.control(verbStop, "", patience); o.exit != 0 || o.results() != "ended" {
		t.Errorf("got %+v after %v", o, time.Since(begun))
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("its process: %v", err)
	}
}

// TestStopWhileOccupied: a start that waits for its address ends with the service.
func TestStopWhileOccupied(t *testing.T) {
	s, path := programs(t, "relay")
	own := filepath.Join(s.dir, "own")
	l, err := net.Listen("unix", own)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go testAccept(l)
	s.write(demo+".toml", listening(t, "", fmt.Sprintf("[start]\nmode = \"relay\"\naddress = %q\nlisten = %q\ntimeout = \"1h\"", own, path), own))
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	testutil.WaitFor(t, "a start waits", func() bool { all := s.instances(); return len(all) == 1 && all[0].State == "starting" })
	if o := s.control(verbStop, "", patience); o.exit != 0 || o.results() != "ended" {
		t.Errorf("got %+v", o)
	}
	if _, reply := readReply(t, c); reply.Refused == nil || !strings.Contains(reply.Refused.Reason, "was stopped before it was ready") {
		t.Errorf("got %v", reply)
	}
}

// TestPausePlain: who comes to the socket of a paused service waits, and no program is started
// for him, until it is resumed.
func TestPausePlain(t *testing.T) {
	for _, kind := range everyKind[:4] {
		t.Run(kind, func(t *testing.T) {
			s, path := programs(t, kind)
			c, _ := s.meet(kind, path)
			testutil.WaitFor(t, "it is known to be ready", func() bool { return s.Backends()+s.Processes() == 1 })
			_ = c.Close()
			if o := s.control(verbPause, "", 0); o.exit != 0 {
				t.Errorf("got %+v", o)
			}
			if o := s.control(verbStop, "", patience); o.exit != 0 {
				t.Errorf("got %+v", o)
			}
			_ = os.Remove(filepath.Join(s.dir, "own")) // which this program does not do
			testutil.WaitFor(t, "its room is free", func() bool { return s.Processes() == 0 })
			waiting := dial(t, path)
			if kind != "listen-fds" { // the kernel's queue is as good
				testutil.WaitFor(t, "it waits", func() bool { c, _ := s.Pending(); return c == 1 })
			}
			for range 100 { // meanwhile its definition is read
				if n := len(s.instances()) + s.Processes(); n != 0 {
					t.Fatal("a paused service was started")
				}
			}
			if o := s.control(verbResume, "", 0); o.exit != 0 {
				t.Errorf("got %+v", o)
			}
			if line, err := bufio.NewReader(waiting).ReadString('\n'); err != nil || word(line, "pid") == "" {
				t.Errorf("got %q, %v", line, err)
			}
			_ = waiting.Close()
			testutil.WaitFor(t, "no process is left", func() bool { return s.Processes() == 0 })
		})
	}
}

// TestProcessesShown: how many processes there are that have a connection to themselves, the
// oldest of them, and who waits for one to end.
func TestProcessesShown(t *testing.T) {
	s := inetd(t, "max_instances = 20", func(o *options) { o.BackendWait = patience })
	var pids []int
	for range 20 {
		c := s.mustDialWith("")
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pidOf(t, line))
	}
	for range 3 {
		send(t, s.dial(), helloFor(t, usherClient, nil))
	}
	testutil.WaitFor(t, "they wait", func() bool { c, _ := s.Pending(); return c == 3 })
	var body struct {
		Instances []any
		Processes []struct {
			Service          string `json:"service_name"`
			Running, Waiting int
			Oldest           []struct {
				PID   int
				Since int64  `json:"since_unix_ms"`
				RSS   uint64 `json:"rss_bytes"`
			}
		}
	}
	s.status(&body)
	if len(body.Instances) != 0 || len(body.Processes) != 1 {
		t.Fatalf("got %+v", body)
	}
	p := body.Processes[0]
	if p.Service != demo || p.Running != 20 || p.Waiting != 3 || len(p.Oldest) != 16 {
		t.Errorf("got %+v", p)
	}
	for i, o := range p.Oldest {
		if o.PID != pids[i] || o.RSS == 0 || o.Since == 0 {
			t.Errorf("number %d is %+v, want process %d", i, o, pids[i])
		}
	}
	if o := s.control(verbStop, "", patience); o.exit != 0 { // those that waited are served by then
		t.Errorf("got %+v", o)
	}
	_ = s.control(verbStop, "", patience)
}

// TestRelaysShown: how many connections are relayed, to whom, and were.
func TestRelaysShown(t *testing.T) {
	s, path := programs(t, "relay")
	first, _ := s.meet("relay", path)
	testutil.WaitFor(t, "it is known to be ready", func() bool { return s.Backends() == 1 })
	second, _ := s.meet("relay", path)
	type shown struct {
		Instances []struct{ Relayed int }
		Relays    struct{ Open, Most, Total int }
	}
	var body shown
	s.status(&body)
	if len(body.Instances) != 1 || body.Instances[0].Relayed != 2 || body.Relays.Open != 2 || body.Relays.Total != 2 || body.Relays.Most == 0 {
		t.Errorf("got %+v", body)
	}
	_, _ = first.Close(), second.Close()
	testutil.WaitFor(t, "nothing is relayed", func() bool {
		var body shown
		s.status(&body)
		return body.Instances[0].Relayed == 0 && body.Relays.Open == 0 && body.Relays.Total == 2
	})
}

// status decodes the body of the broker's status.
func (s *site) status(into any) {
	s.tb.Helper()
	reply := s.admin(wire.AdminVerb_ADMIN_VERB_STATUS, func(req *wire.AdminRequest) { req.Json = true })
	if err := json.Unmarshal([]byte(reply.Body), into); err != nil {
		s.tb.Fatalf("%v in %s", err, reply.Body)
	}
}

// TestRestartRelayFollows: the new program begins when the old one has ended, which may remove
// the name that is the new one's by then.
func TestRestartRelayFollows(t *testing.T) {
	s, path := programs(t, "relay")
	own := filepath.Join(s.dir, "own")
	s.write(demo+".toml", listening(t, "removes its name late", fmt.Sprintf("[start]\nmode = \"relay\"\naddress = %q\nlisten = %q", own, path), own))
	_, pid := s.meet("relay", path)
	testutil.WaitFor(t, "it is known to be ready", func() bool { return s.Backends() == 1 })
	if o := s.control(verbRestart, "", patience); o.exit != 0 {
		t.Errorf("got %+v", o)
	}
	awaitEnd(t, pid)
	if _, err := os.Lstat(own); err != nil {
		t.Error(err)
	}
	if c, next := s.meet("relay", path); next == pid || c.Close() != nil {
		t.Errorf("process %d serves still", next)
	}
}

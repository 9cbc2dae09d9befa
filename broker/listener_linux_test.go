package broker_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// define names a service by a file that is there as a whole, at once.
func (s *site) defineAtOnce(name, content string) {
	s.tb.Helper()
	fresh := filepath.Join(s.dir, name+".new")
	if err := os.WriteFile(fresh, []byte(content), 0o600); err != nil {
		s.tb.Fatal(err)
	}
	if err := os.Rename(fresh, filepath.Join(s.defs, name+".toml")); err != nil {
		s.tb.Fatal(err)
	}
}

// listening is the definition of a program with a listener of its own.
func listening(tb testing.TB, mode, extra, argument string) string {
	return fmt.Sprintf("binary_path = %q\n%s\nargs = [%q]\nenv.USHER_TEST_HELPER = \"listens\"\nenv.%s = %q\n",
		ownBinary(tb), extra, argument, envMode, mode)
}

// whoAt asks the program at path who it is, as soon as somebody listens there.
func (s *site) whoAt(path string) int {
	s.tb.Helper()
	c := s.awaitSocket(path)
	defer c.Close()
	line, err := bufio.NewReader(c).ReadString('\n')
	pid, numErr := strconv.Atoi(word(line, "pid"))
	if err != nil || numErr != nil {
		s.tb.Fatalf("got %q, %v", line, err)
	}
	return pid
}

// TestRelayFull: a program that accepts nobody, and whose queue is full, costs a client the
// time that a backend has, and no more; who says Hello is told.
func TestRelayFull(t *testing.T) {
	for name, address := range map[string]string{"path": "own", "port": freePort(t)} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(o *options) {
				o.LogDir, o.AckDeadline = filepath.Join(filepath.Dir(o.Socket), "logs"), 50*time.Millisecond
			})
			plain := filepath.Join(s.dir, "plain")
			if name == "path" {
				address = filepath.Join(s.dir, address)
			}
			s.write(demo+".toml", listening(t, "full", fmt.Sprintf("[start]\nmode = \"relay\"\naddress = %q\nlisten = %q", address, plain), address))
			if got, err := io.ReadAll(s.awaitSocket(plain)); len(got) > 0 || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
			if name == "path" {
				return // who says Hello is sent there
			}
			if _, err := s.once(); err == nil || !strings.Contains(err.Error(), "does not answer") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestRelayOccupiedFull: an address is occupied, too, by who does not accept.
func TestRelayOccupiedFull(t *testing.T) {
	for name, address := range map[string]string{"path": "own", "port": freePort(t)} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(o *options) { o.LogDir = filepath.Join(filepath.Dir(o.Socket), "logs") })
			if name == "path" {
				address = filepath.Join(s.dir, address)
			}
			full := testutil.Helper(t, "listens")
			full.Args, full.Env = append(full.Args[:1], address), append(full.Env, envMode+"=full")
			if err := full.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = full.Process.Kill(); _ = full.Wait() }()
			network := map[string]string{"path": "unix", "port": "tcp"}[name]
			testutil.WaitFor(t, "it listens, and its queue is full", func() bool {
				c, err := net.DialTimeout(network, address, 50*time.Millisecond)
				if err == nil {
					t.Cleanup(func() { _ = c.Close() })
				}
				var late net.Error
				return errors.Is(err, syscall.EAGAIN) || errors.As(err, &late) && late.Timeout()
			})
			s.write(demo+".toml", listening(t, "", fmt.Sprintf("[start]\nmode = \"relay\"\ntimeout = \"100ms\"\naddress = %q", address), address))
			if _, err := s.once(); err == nil || !strings.Contains(err.Error(), "another program answers at "+address) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestRelayMoves: where the definition has the program listen elsewhere, or asks for another
// version, the next client gets a new one, and the old one ends.
func TestRelayMoves(t *testing.T) {
	s := newSite(t, func(o *options) { o.LogDir = filepath.Join(filepath.Dir(o.Socket), "logs") })
	plain := filepath.Join(s.dir, "plain")
	first, second := freePort(t), filepath.Join(s.dir, "second")
	var before int
	for _, next := range []struct{ version, address string }{{"1.0.0", first}, {"1.0.0", second}, {"1.2.0", second}} {
		_ = os.Remove(second) // which this program does not do
		s.defineAtOnce(demo, listening(t, "", fmt.Sprintf("min_version = %q\n[start]\nmode = \"relay\"\naddress = %q\nlisten = %q", next.version, next.address, plain), next.address))
		var now int
		testutil.WaitFor(t, "another serves", func() bool { // a definition that has just changed may be read before
			c, err := net.Dial("unix", plain)
			if err != nil {
				return false
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(patience))
			line, _ := bufio.NewReader(c).ReadString('\n')
			now, _ = strconv.Atoi(word(line, "pid"))
			return now != 0 && now != before
		})
		if before != 0 {
			awaitEnd(t, before)
		}
		before = now
	}
}

// TestRelayMovesWhileItStarts: a program that is just being started when the definition asks for
// another version ends before the next one is started at the same address, whether it runs already
// or waits for that; and whoever has waited for it is served by the next one.
func TestRelayMovesWhileItStarts(t *testing.T) {
	for _, name := range []string{"runs", "waits for the address"} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(o *options) { keepLogs(o); o.BackendWait = patience })
			own := filepath.Join(s.dir, "own")
			define := func(version, mode string) {
				s.defineAtOnce(demo, listening(t, mode, fmt.Sprintf("min_version = %q\n[start]\nmode = \"relay\"\naddress = %q\ntimeout = \"1h\"", version, own), own)+fmt.Sprintf("env.%s = %q\n", envSocket, s.dir))
			}
			ask := func() net.Conn {
				c := s.dial()
				send(t, c, helloFor(t, usherClient, func(r *hello.Request) { r.Version = "3.0.0" }))
				return c
			}
			var first net.Conn
			var older int
			if name == "runs" {
				told := s.told()
				define("1.0.0", "listens when told")
				first = ask()
				tell, err := told.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer tell.Close()
				testutil.WaitFor(t, "its process is known", func() bool {
					all := s.instances()
					if len(all) == 1 {
						older = all[0].PID
					}
					return older != 0
				})
			} else {
				l, err := net.Listen("unix", own)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				go testAccept(l)
				define("1.0.0", "")
				first = ask()
				testutil.WaitFor(t, "it is being started", func() bool { return s.Starts() == 1 })
				s.later = append(s.later, func() { _ = l.Close() })
			}
			define("2.0.0", "")
			second := ask()
			if name != "runs" {
				testutil.WaitFor(t, "both wait for the second", func() bool { return s.Starts() == 1 && s.StartsVersion("2.0.0") && s.PutOff() == 2 })
				s.later[0]()
			}
			for _, c := range []net.Conn{second, first} {
				readSentAway(t, c, own)
			}
			if all := s.instances(); len(all) != 1 || all[0].PID == older || s.whoAt(own) != all[0].PID {
				t.Errorf("instances %+v, and before that process %d", all, older)
			}
			if older != 0 {
				if err := syscall.Kill(older, 0); !errors.Is(err, syscall.ESRCH) {
					t.Errorf("the first: %v", err)
				}
			}
		})
	}
}

// TestListenFDsSocketReplaced: a program whose socket's name has gone gets nobody any more. The
// one that is made in its place has a program of its own.
func TestListenFDsSocketReplaced(t *testing.T) {
	s, path := passing(t, "", "")
	first := s.whoAt(path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if second := s.whoAt(path); second == first {
		t.Errorf("process %d serves still", first)
	}
	awaitEnd(t, first)
	if err := os.Remove(filepath.Join(s.defs, demo+".toml")); err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "it ends with its definition", func() bool { return s.Backends() == 0 })
}

// TestListenUnclean: a path is the same however it is written.
func TestListenUnclean(t *testing.T) {
	s, path := passing(t, "", "")
	s.whoAt(path)
	s.write(demo+".toml", fmt.Sprintf("binary_path = %q\n[start]\nmode = \"listen-fds\"\nlisten = %q\nenv.USHER_TEST_HELPER = \"passed\"\n", ownBinary(t), s.dir+"//./unclean"))
	s.whoAt(filepath.Join(s.dir, "unclean"))
}

// TestPlainSocketIsMadeAnew whenever its name goes, however short it has been there.
func TestPlainSocketIsMadeAnew(t *testing.T) {
	s := newSite(t, func(o *options) { o.LogDir = filepath.Join(filepath.Dir(o.Socket), "logs") })
	path := filepath.Join(s.dir, "plain")
	s.defineAtOnce(demo, fmt.Sprintf("binary_path = \"/bin/cat\"\n[start]\nmode = \"inetd\"\nlisten = %q\n", path))
	for range 3 {
		_ = s.awaitSocket(path).Close()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	_ = s.awaitSocket(path).Close()
	testutil.WaitFor(t, "no process is left", func() bool { return s.Processes() == 0 })
}

// TestPlainSocketOfTwo: a path can't be the socket of two services. The first has it, and that
// the other has it not is said.
func TestPlainSocketOfTwo(t *testing.T) {
	log := new(lines)
	s := newSite(t, func(o *options) {
		o.LogDir, o.Logger = filepath.Join(filepath.Dir(o.Socket), "logs"), slog.New(slog.NewTextHandler(log, nil))
	})
	path := filepath.Join(s.dir, "plain")
	for _, of := range []struct{ name, says string }{{"aaa", "first"}, {"bbb", "second"}} {
		s.defineAtOnce(of.name, fmt.Sprintf("binary_path = \"/bin/echo\"\n[start]\nmode = \"inetd\"\nargs = [%q]\nlisten = %q\n", of.says, path))
	}
	testutil.WaitFor(t, "it is said", func() bool { return strings.Contains(log.String(), "it is the socket of service aaa") })
	if got, err := io.ReadAll(s.awaitSocket(path)); string(got) != "first\n" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	testutil.WaitFor(t, "no process is left", func() bool { return s.Processes() == 0 })
}

// TestListenFDsWithoutDescriptors: the socket of a program that can't be started for want of
// descriptors costs no processor time meanwhile, and its clients wait.
func TestListenFDsWithoutDescriptors(t *testing.T) {
	testutil.Needs(t, "a wait for more descriptors than the process may have")
	p, s := ownBroker(t)
	path := filepath.Join(s.dir, "passed")
	s.write(demo+".toml", fmt.Sprintf("binary_path = %q\n[start]\nmode = \"listen-fds\"\nlisten = %q\nenv.USHER_TEST_HELPER = \"passed\"\n", ownBinary(t), path))
	testutil.WaitFor(t, "the broker listens there", func() bool {
		all, err := os.ReadFile("/proc/net/unix")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(all)) {
			if fields := strings.Fields(line); fields[len(fields)-1] == path && fields[3] == "00010000" { // __SO_ACCEPTCON
				return true
			}
		}
		return false
	})
	lift := limit(t, p, 0)
	c := dial(t, path)
	p.says("full")
	percent, err := strconv.ParseFloat(p.says("percent"), 64)
	if err != nil || percent >= 5 {
		t.Errorf("%v%% of a processor, %v", percent, err)
	}
	lift()
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || word(line, "pid") == "" {
		t.Errorf("got %q, %v", line, err)
	}
	p.end()
}

// TestPlainSocketOfDamaged: a definition that can't be read, for it may be about to be written,
// changes nothing about its socket, nor about the program that has it.
func TestPlainSocketOfDamaged(t *testing.T) {
	s := newSite(t, func(o *options) { o.LogDir = filepath.Join(filepath.Dir(o.Socket), "logs") })
	path, other := filepath.Join(s.dir, "passed"), filepath.Join(s.dir, "other")
	program := func(listen string) string {
		return fmt.Sprintf("binary_path = %q\n[start]\nmode = \"listen-fds\"\nlisten = %q\nenv.USHER_TEST_HELPER = \"passed\"\n", ownBinary(t), listen)
	}
	s.defineAtOnce(demo, program(path))
	pid := s.whoAt(path)
	s.defineAtOnce(demo, "")
	s.defineAtOnce("other", program(other)) // once that is there, the first has been looked at
	_ = s.awaitSocket(other).Close()
	if now := s.whoAt(path); now != pid {
		t.Errorf("process %d serves, not %d", now, pid)
	}
}

// TestPlainSocketInTheWay: what is there and is not a dead socket is left alone, and said to be
// in the way; as soon as it has gone the socket is there.
func TestPlainSocketInTheWay(t *testing.T) {
	for name, way := range map[string]struct {
		put  func(t *testing.T, path string) (gone func() error)
		says string
	}{
		"a symbolic link": {func(t *testing.T, path string) func() error {
			if err := os.Symlink(path+".elsewhere", path); err != nil {
				t.Fatal(err)
			}
			return func() error {
				_, err := os.Lstat(path + ".elsewhere")
				if !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the link was followed: %v", err)
				}
				return os.Remove(path)
			}
		}, "symbolic link"},
		"somebody's socket": {func(t *testing.T, path string) func() error {
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			go testAccept(l)
			return func() error {
				c, err := net.Dial("unix", path)
				if err == nil {
					err = c.Close()
				}
				return errors.Join(err, l.Close()) // which removes its name
			}
		}, "already serves"},
		"a file": {func(t *testing.T, path string) func() error {
			if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
			return func() error {
				if text, err := os.ReadFile(path); string(text) != "mine" || err != nil {
					t.Errorf("the file has %q, %v", text, err)
				}
				return os.Remove(path)
			}
		}, "regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			log := new(lines)
			s := newSite(t, func(o *options) {
				o.LogDir, o.Logger = filepath.Join(filepath.Dir(o.Socket), "logs"), slog.New(slog.NewTextHandler(log, nil))
			})
			path := filepath.Join(s.dir, "plain")
			gone := way.put(t, path)
			s.defineAtOnce(demo, fmt.Sprintf("binary_path = \"/bin/echo\"\n[start]\nmode = \"inetd\"\nargs = [\"usher's\"]\nlisten = %q\n", path))
			testutil.WaitFor(t, "it is said", func() bool {
				return strings.Contains(log.String(), "listen.failed") && strings.Contains(log.String(), way.says)
			})
			if err := gone(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(s.awaitSocket(path)); string(got) != "usher's\n" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
			testutil.WaitFor(t, "no process is left", func() bool { return s.Processes() == 0 })
		})
	}
}

package broker_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// listeningProcess listens by itself, at the address of its argument: it says who it is, and
// then what it reads.
func listeningProcess() error {
	network, address := "tcp", os.Args[1]
	switch {
	case address == "fails":
		fmt.Println("no room")
		return errors.New("can't listen")
	case filepath.IsAbs(address):
		network = "unix"
	}
	switch os.Getenv(envMode) {
	case "full":
		if _, err := listenFull(network, address); err != nil {
			return err
		}
		select {}
	case "listens when told":
		if err := untilTold(filepath.Join(os.Getenv(envSocket), "told")); err != nil {
			return err
		}
	case "ignores TERM":
		signal.Ignore(syscall.SIGTERM)
	case "frozen":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	}
	listen := net.Listen
	if os.Getenv(envMode) == "full until told" && os.Remove(address) != nil { // the one before was told
		listen = listenWhenTold
	}
	l, err := listen(network, address)
	if err != nil {
		return err
	}
	if os.Getenv(envMode) == "removes its name late" {
		go removeLate(l, network, address)
	}
	if path := os.Getenv("NOTIFY_SOCKET"); path != "" {
		if err := listensBeforeReady(l, path); err != nil {
			return err
		}
	}
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			select {}
		}
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			_, _ = fmt.Fprintf(c, "pid=%d\n", os.Getpid())
			_, _ = io.Copy(c, c)
			if os.Getenv(envMode) == "does not end" {
				select {}
			}
		}()
	}
}

// removeLate ends by SIGTERM: it listens no more, and removes the name of its socket when
// another has bound that, or nobody has in half a second.
func removeLate(l net.Listener, network, address string) {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	<-told
	_ = l.Close() // which removes it, too
	for by := time.Now().Add(time.Second / 2); time.Now().Before(by); {
		if c, err := net.Dial(network, address); err == nil {
			_ = c.Close()
			break
		}
	}
	_ = os.Remove(address)
	os.Exit(0)
}

// listenFull has room for one in its queue, and accepts nobody.
func listenFull(network, address string) (fd int, err error) {
	if network == "tcp" {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); err == nil {
			_, err = reserve(fd, netip.MustParseAddrPort(address))
		}
	} else if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0); err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: address})
	}
	if err == nil {
		err = unix.Listen(fd, 0)
	}
	return fd, err
}

// listenWhenTold is listenFull until the test says so.
func listenWhenTold(network, address string) (net.Listener, error) {
	fd, err := listenFull(network, address)
	if err == nil {
		err = untilTold(filepath.Join(os.Getenv(envSocket), "told"))
	}
	if err != nil {
		return nil, err
	}
	return net.FileListener(os.NewFile(uintptr(fd), address))
}

// listensBeforeReady has the first who connects decide, and only then says that it is ready:
// he must not be the broker, who hangs up without a word.
func listensBeforeReady(l net.Listener, notify string) error {
	c, err := l.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
		return fmt.Errorf("somebody came too early: %w", err)
	}
	ready, err := net.Dial("unixgram", notify)
	if err != nil {
		return err
	}
	_, err = io.WriteString(ready, "READY=1\n")
	return err
}

// relayed is a site whose service demo is a program that listens at address, with a plain
// socket at the path that is returned.
func relayed(t *testing.T, address, argument string, start ...string) (s *site, plain string) {
	t.Helper()
	s = newSite(t, keepLogs)
	plain = filepath.Join(s.dir, "plain")
	if address == "path" {
		address = filepath.Join(s.dir, "own")
	}
	if argument == "" {
		argument = address
	}
	s.write(demo+".toml", fmt.Sprintf("binary_path = %q\n[start]\nmode = \"relay\"\naddress = %q\nargs = [%q]\nlisten = %q\ntimeout = \"1m\"\n%s\n[start.env]\nUSHER_TEST_HELPER = \"listens\"\n",
		ownBinary(t), address, argument, plain, strings.Join(start, "\n")))
	return s, plain
}

// freePort is an address where nobody listens. Until the test's end it is given to nobody who
// asks for any port.
func freePort(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	at, err := reserve(fd, netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	return at.String()
}

// reserve binds a socket, so that others who ask for this very address can, too.
func reserve(fd int, want netip.AddrPort) (got netip.AddrPort, err error) {
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Port: int(want.Port()), Addr: want.Addr().As4()}))
	if err != nil {
		return got, err
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return got, err
	}
	return netip.AddrPortFrom(want.Addr(), uint16(bound.(*unix.SockaddrInet4).Port)), nil
}

// TestRelay: the program is started by the first who wants it, and serves all: usher's
// clients on its own socket, plain ones and those of a TCP port through the broker.
func TestRelay(t *testing.T) {
	for name, address := range map[string]string{"path": "path", "port": freePort(t)} {
		t.Run(name, func(t *testing.T) {
			s, plain := relayed(t, address, "")
			pids := make(map[string]bool)
			converse := func(c interface {
				net.Conn
				CloseWrite() error
			}, early string) {
				_ = c.SetDeadline(time.Now().Add(patience))
				lines := bufio.NewReader(c)
				who, err := lines.ReadString('\n')
				if err != nil {
					t.Fatal(err)
				}
				pids[word(who, "pid")] = true
				big := strings.Repeat("x", 1<<20)
				go func() {
					_, _ = io.WriteString(c, big)
					_ = c.CloseWrite()
				}()
				if got, err := io.ReadAll(lines); string(got) != early+big || err != nil {
					t.Errorf("%d bytes came back, %v", len(got), err)
				}
				_ = c.Close()
			}
			converse(s.awaitSocket(plain), "")
			for _, early := range []string{"", "early\n"} {
				c := s.mustDialWith(early)
				if want := map[string]client.Route{"path": client.Reconnected, "port": client.HandedOver}[name]; c.Route() != want {
					t.Errorf("the route is %v", c.Route())
				}
				converse(c, early)
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			c, err := client.Dial(ctx, client.Options{Service: demo, Version: "7.0.0", Broker: s.Socket(), NoHandoff: true})
			if err != nil {
				t.Fatal(err)
			}
			converse(c, "")
			if len(pids) != 1 || s.Backends() != 1 {
				t.Errorf("processes %v, %d backends", pids, s.Backends())
			}
			testutil.WaitFor(t, "nothing is relayed", func() bool { return s.Relays() == 0 })

			// Who is killed is started anew; who was relayed sees the end.
			open := dial(t, plain)
			who, err := bufio.NewReader(open).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			var pid int
			if _, err := fmt.Sscanf(who, "pid=%d", &pid); err != nil {
				t.Fatal(err)
			}
			_ = syscall.Kill(pid, syscall.SIGKILL)
			if rest, err := io.ReadAll(open); len(rest) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("got %q, %v", rest, err)
			}
			if name == "path" {
				_ = os.Remove(filepath.Join(s.dir, "own")) // which this program does not do
			}
			testutil.WaitFor(t, "its end is known", func() bool { return s.Backends() == 0 })
			again, err := bufio.NewReader(dial(t, plain)).ReadString('\n')
			if err != nil || again == who {
				t.Errorf("got %q, %v", again, err)
			}
			// It ends with the broker, and so does what is relayed.
			if _, err := fmt.Sscanf(again, "pid=%d", &pid); err != nil {
				t.Fatal(err)
			}
			s.stop()
			if err := s.end(); err != nil {
				t.Error(err)
			}
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				t.Errorf("its process: %v", err)
			}
		})
	}
}

// TestRelayNotify: a program that listens before it is ready, and says when it is, has nobody
// sent to it before.
func TestRelayNotify(t *testing.T) {
	s, plain := relayed(t, "path", "", "notify = true")
	first := s.awaitSocket(plain)
	var own net.Conn
	testutil.WaitFor(t, "it listens", func() bool {
		c, err := net.Dial("unix", filepath.Join(s.dir, "own"))
		own = c
		return err == nil
	})
	defer own.Close()
	if s.Backends() != 0 {
		t.Error("it counts as ready before it has said so")
	}
	if _, err := io.WriteString(own, "go on\n"); err != nil {
		t.Fatal(err)
	}
	_ = first.SetDeadline(time.Now().Add(patience))
	if who, err := bufio.NewReader(first).ReadString('\n'); err != nil || !strings.HasPrefix(who, "pid=") {
		t.Errorf("got %q, %v", who, err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(s.Socket()), "ready-*")); len(left) > 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestRelayFails: who wants a program that does not listen is told why.
func TestRelayFails(t *testing.T) {
	s, plain := relayed(t, "path", "fails")
	_, err := s.dialWith("request\n")
	for _, part := range []string{"exited with code 1 before it was ready", "can't listen", "its log is"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %v", part, err)
		}
	}
	if got, err := io.ReadAll(dial(t, plain)); len(got) > 0 || err != nil {
		t.Errorf("a plain client got %q, %v", got, err)
	}
}

// TestRelayOccupied: an address where somebody answers already is nobody's to start at.
func TestRelayOccupied(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go testAccept(l)
	s, _ := relayed(t, l.Addr().String(), "")
	s.write(demo+".toml", fmt.Sprintf("binary_path = %q\n[start]\nmode = \"relay\"\naddress = %q\ntimeout = \"100ms\"\n", ownBinary(t), l.Addr()))
	if _, err := s.dialWith(""); err == nil || !strings.Contains(err.Error(), "another program answers at "+l.Addr().String()) {
		t.Errorf("got %v", err)
	}
}

func testAccept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_ = c.Close()
	}
}

package broker_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/logfile"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// inetdProcess has one connection, as standard input and output: it says who it is and who
// is at the other end, and then what it reads.
func inetdProcess() error {
	flags, err := unix.FcntlInt(0, unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	cred, err := unix.GetsockoptUcred(0, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return err
	}
	fmt.Printf("pid=%d peer=%d blocking=%v args=%q version=%s\n", os.Getpid(), cred.Pid, flags&unix.O_NONBLOCK == 0, os.Args[1:],
		os.Getenv("RUNNING_PROCESS_BROKER_V1_SERVICE_VERSION"))
	fmt.Fprintln(os.Stderr, "to the log")
	if os.Getenv(envMode) == "talks" {
		for range 3 << 10 {
			fmt.Fprintln(os.Stderr, strings.Repeat("x", 1<<10))
		}
	}
	_, err = io.Copy(os.Stdout, os.Stdin)
	return err
}

// inetd is a site whose service demo has a process for each connection.
func inetd(t *testing.T, start string, change func(*options)) *site {
	t.Helper()
	s := newSite(t, func(o *options) {
		keepLogs(o)
		if change != nil {
			change(o)
		}
	})
	t.Cleanup(func() {
		if s.ctx.Err() == nil { // they outlive the broker
			testutil.WaitFor(t, "no process is left", func() bool { return s.Processes() == 0 })
		}
	})
	s.defineInetd(ownBinary(t), start)
	return s
}

func (s *site) defineInetd(binary, start string) {
	s.write(demo+".toml", fmt.Sprintf("binary_path = %q\n[start]\nmode = \"inetd\"\n%s\nenv.USHER_TEST_HELPER = \"inetd\"\n", binary, start))
}

func (s *site) dialWith(early string) (*client.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	options := client.Options{Service: demo, Version: demoVersion, Broker: s.Socket()}
	if early == "" {
		return client.Dial(ctx, options)
	}
	return client.DialWith(ctx, options, []byte(early))
}

func (s *site) mustDialWith(early string) *client.Conn {
	s.tb.Helper()
	c, err := s.dialWith(early)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// TestInetd: each connection has a process of its own, which has the live connection: what
// the client sent along is unread in it, its peer is the client, and its end is the
// client's.
func TestInetd(t *testing.T) {
	s := inetd(t, `args = ["-i", "a b"]`, nil)
	pids := make(map[string]bool)
	for _, early := range []string{"", "one\n"} {
		c := s.mustDialWith(early)
		if c.Route() != client.HandedOver {
			t.Errorf("the route is %v", c.Route())
		}
		lines := bufio.NewReader(c)
		who, err := lines.ReadString('\n')
		if want := fmt.Sprintf(` peer=%d blocking=true args=["-i" "a b"] version=`+demoVersion, os.Getpid()); err != nil || !strings.HasSuffix(strings.TrimSpace(who), want) {
			t.Errorf("got %q, %v, want …%s", who, err, want)
		}
		pids[word(who, "pid")] = true
		if _, err := c.Write([]byte("two\n")); err != nil {
			t.Error(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Error(err)
		}
		if rest, err := io.ReadAll(lines); string(rest) != early+"two\n" || err != nil {
			t.Errorf("got %q, %v", rest, err)
		}
	}
	if len(pids) != 2 {
		t.Errorf("processes: %v", pids)
	}
	checkHandoffs(t, s, handoffCounts{Adopted: 2})
	testutil.WaitFor(t, "no process is left", func() bool { return s.Processes() == 0 })
	for pid := range pids {
		if n, err := strconv.Atoi(pid); err != nil || !errors.Is(syscall.Kill(n, 0), syscall.ESRCH) {
			t.Errorf("process %s is still there", pid)
		}
	}
	log, err := os.ReadFile(filepath.Join(s.dir, "logs", demo+".log"))
	if err != nil || strings.Count(string(log), "to the log\n") != 2 {
		t.Errorf("the log: %q, %v", log, err)
	}
}

// stdioProcess has pipes: it says that it is no socket what it reads from, then what it reads,
// and at its end that it has ended.
func stdioProcess() error {
	in, err := os.Stdin.Stat()
	if err != nil {
		return err
	}
	out, err := os.Stdout.Stat()
	if err != nil {
		return err
	}
	fmt.Printf("pid=%d in=%v out=%v\n", os.Getpid(), in.Mode().Type() == os.ModeNamedPipe, out.Mode().Type() == os.ModeNamedPipe)
	switch os.Getenv(envMode) {
	case "leaves":
		return nil
	case "leaves a child": // which has the pipes
		child := exec.Command("sleep", "100")
		child.Stdin, child.Stdout, child.SysProcAttr = os.Stdin, os.Stdout, &syscall.SysProcAttr{Setsid: true}
		if err := child.Start(); err != nil {
			return err
		}
		_, err := fmt.Printf("child=%d\n", child.Process.Pid)
		return err
	}
	if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
		return err
	}
	_, err = fmt.Println("bye")
	return err
}

// TestStdio: as inetd, with pipes; each direction ends by itself, whatever is on its way.
func TestStdio(t *testing.T) {
	s := inetd(t, "", nil)
	path := filepath.Join(s.dir, "plain")
	define := func(mode string) {
		s.write(demo+".toml", fmt.Sprintf("binary_path = %q\n[start]\nmode = \"stdio\"\nlisten = %q\n[start.env]\nUSHER_TEST_HELPER = \"stdio\"\n%s = %q\n",
			ownBinary(t), path, envMode, mode))
	}
	define("")
	for _, c := range []interface {
		net.Conn
		CloseWrite() error
	}{s.mustDialWith("early "), s.mustDialWith(""), s.awaitSocket(path)} {
		big := strings.Repeat("x", 1<<20)
		go func() {
			_, _ = io.WriteString(c, big)
			_ = c.CloseWrite()
		}()
		lines := bufio.NewReader(c)
		who, err := lines.ReadString('\n')
		if !strings.HasSuffix(who, " in=true out=true\n") || err != nil {
			t.Errorf("got %q, %v", who, err)
		}
		rest, err := io.ReadAll(lines)
		if got := strings.TrimPrefix(string(rest), "early "); got != big+"bye\n" || err != nil {
			t.Errorf("%d bytes came back, %v", len(rest), err)
		}
		_ = c.Close()
	}
	testutil.WaitFor(t, "no process is left", func() bool { return s.Processes() == 0 })

	// A program that leaves ends the connection, although the client has not ended his side.
	define("leaves")
	c := s.mustDialWith("")
	if got, err := io.ReadAll(c); !strings.HasPrefix(string(got), "pid=") || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	var err error
	for err == nil {
		_, err = c.Write(make([]byte, 1<<10))
	}
	if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
}

// TestInetdRefusal: who can't be served is told why, and knows that nothing has run; a
// program that exec does not take is one of those.
func TestInetdRefusal(t *testing.T) {
	testutil.Needs(t, "holding a program before its first instruction")
	s := inetd(t, "", nil)
	broken := filepath.Join(s.dir, "broken")
	for content, why := range map[string]string{
		"no program\n":           "exec format error",
		"#!/nonexistent/shell\n": "no such file or directory",
	} {
		if err := os.WriteFile(broken+".new", []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(broken+".new", broken); err != nil {
			t.Fatal(err)
		}
		s.defineInetd(broken, "")
		_, err := s.dialWith("request\n")
		var outcome *client.OutcomeError
		if err == nil || !strings.Contains(err.Error(), demo+" can't be started") || !strings.Contains(err.Error(), why) || errors.As(err, &outcome) {
			t.Errorf("%q: %v", content, err)
		}
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	if _, err := s.dialWith(""); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("without a program: %v", err)
	}
	s.defineInetd(ownBinary(t), "")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := client.Dial(ctx, client.Options{Service: demo, Version: demoVersion, Broker: s.Socket(), NoHandoff: true})
	if err == nil || !strings.Contains(err.Error(), "no socket to reconnect to") {
		t.Errorf("who wants to reconnect: %v", err)
	}
}

// TestInetdScript: a program that an interpreter runs is found by it.
func TestInetdScript(t *testing.T) {
	s := inetd(t, "", nil)
	script := filepath.Join(s.dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nread line\necho \"got $line\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.defineInetd(script, "")
	c := s.mustDialWith("request\n")
	if got, err := io.ReadAll(c); string(got) != "got request\n" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestInetdBounds: more than may run at once wait for one that ends, in vain for no longer
// than for a backend, and are told so; as many as that begin in a second.
func TestInetdBounds(t *testing.T) {
	s := inetd(t, "max_instances = 2", func(o *options) { o.BackendWait = patience })
	var first []*client.Conn
	for range 2 {
		c := s.mustDialWith("")
		if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		first = append(first, c)
	}
	const more = 8
	var wg sync.WaitGroup
	for range more {
		wg.Go(func() {
			c, err := s.dialWith("x\n")
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_ = c.CloseWrite()
			if got, err := io.ReadAll(c); !strings.HasSuffix(string(got), "x\n") || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	testutil.WaitFor(t, "they wait", func() bool { c, _ := s.Pending(); return c == more })
	if n := s.Processes(); n != 2 {
		t.Errorf("%d processes", n)
	}
	for _, c := range first {
		_ = c.Close()
	}
	wg.Wait()
	testutil.WaitFor(t, "no process is left", func() bool { return s.Processes() == 0 })

	s.defineInetd(ownBinary(t), "max_per_second = 1")
	testutil.WaitFor(t, "of two at once one is served, and the other is not", func() bool {
		two := []net.Conn{s.dial(), s.dial()} // which a busy machine may take for two of different seconds
		for _, c := range two {
			send(t, c, helloFor(t, usherClient, nil))
		}
		var refused []string
		for _, c := range two {
			if _, reply := readReply(t, c); reply.Refused != nil {
				refused = append(refused, reply.Refused.Reason)
			}
			_ = c.Close()
		}
		if len(refused) == 1 && !strings.Contains(refused[0], "rate limit") {
			t.Fatal(refused)
		}
		return len(refused) == 1
	})
}

// once is a call that is not repeated when it is refused for a while.
func (s *site) once() (net.Conn, error) {
	s.tb.Helper()
	c := s.dial()
	send(s.tb, c, helloFor(s.tb, usherClient, nil))
	if _, reply := readReply(s.tb, c); reply.Refused != nil {
		return nil, errors.New(reply.Refused.Reason)
	}
	return c, nil
}

func TestInetdFull(t *testing.T) {
	s := inetd(t, "max_instances = 1", func(o *options) { o.BackendWait = 50 * time.Millisecond })
	s.mustDialWith("")
	if _, err := s.once(); err == nil || !strings.Contains(err.Error(), "all 1 processes") {
		t.Errorf("got %v", err)
	}
}

// TestInetdRoomForTheNext: who has waited for room and makes no use of it leaves it to the next
// one at once.
func TestInetdRoomForTheNext(t *testing.T) {
	s := inetd(t, "max_instances = 1", func(o *options) { o.BackendWait = time.Hour })
	busy := s.mustDialWith("")
	if _, err := bufio.NewReader(busy).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	const more = 3
	errs := make(chan error, more)
	for range more {
		go func() {
			c, err := s.dialWith("")
			if err == nil {
				_ = c.Close()
			}
			errs <- err
		}()
	}
	testutil.WaitFor(t, "they wait", func() bool { c, _ := s.Pending(); return c == more })
	s.defineInetd(filepath.Join(s.dir, "missing"), "max_instances = 1")
	_ = busy.Close()
	for range more {
		if err := <-errs; err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("got %v", err)
		}
	}
}

// TestStdioLeavesAChild: what a process has left behind, with its pipes, keeps the connection
// and its room, until it has closed them.
func TestStdioLeavesAChild(t *testing.T) {
	s := inetd(t, "", func(o *options) { o.BackendWait = 50 * time.Millisecond })
	s.write(demo+".toml", fmt.Sprintf("binary_path = %q\n[start]\nmode = \"stdio\"\nmax_instances = 1\n[start.env]\nUSHER_TEST_HELPER = \"stdio\"\n%s = \"leaves a child\"\n",
		ownBinary(t), envMode))
	lines := bufio.NewReader(s.mustDialWith(""))
	var pid, child int
	who, err := lines.ReadString('\n')
	if err == nil {
		_, err = fmt.Sscanf(who, "pid=%d", &pid)
	}
	if err != nil {
		t.Fatal(err)
	}
	who, err = lines.ReadString('\n')
	if err == nil {
		_, err = fmt.Sscanf(who, "child=%d", &child)
	}
	if err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "the process has ended", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
	if _, err := s.once(); err == nil || !strings.Contains(err.Error(), "all 1 processes") {
		t.Errorf("got %v", err)
	}
	if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	if rest, err := io.ReadAll(lines); len(rest) > 0 || err != nil {
		t.Errorf("got %q, %v", rest, err)
	}
}

// TestLogOfInetd: what a process that goes on serving writes is bounded.
func TestLogOfInetd(t *testing.T) {
	s := inetd(t, "", nil)
	s.defineInetd(ownBinary(t), fmt.Sprintf("env.%s = \"talks\"", envMode))
	s.mustDialWith("")
	path := filepath.Join(s.dir, "logs", demo+".log")
	testutil.WaitFor(t, "the log is bounded", func() bool {
		now, err := os.Stat(path)
		older, olderErr := os.Stat(logfile.Older(path))
		return err == nil && olderErr == nil && now.Size() <= logfile.Max && older.Size() <= logfile.Max
	})
}

package broker_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// passedProcess accepts from the socket that it was started with. It says who it is and who
// is at the other end, and ends when it is told to.
func passedProcess() error {
	switch os.Getenv(envMode) {
	case "fails":
		return errors.New("can't accept")
	case "hangs":
		select {}
	}
	if pid := os.Getenv("LISTEN_PID"); pid != fmt.Sprint(os.Getpid()) || os.Getenv("LISTEN_FDS") != "1" {
		return fmt.Errorf("LISTEN_PID is %s, LISTEN_FDS %s", pid, os.Getenv("LISTEN_FDS"))
	}
	l, err := net.FileListener(os.NewFile(3, "passed"))
	if err != nil {
		return err
	}
	if path := os.Getenv("NOTIFY_SOCKET"); path != "" {
		c, err := net.Dial("unixgram", path)
		if err != nil {
			return err
		}
		_, _ = io.WriteString(c, "STATUS=about to\n")
		_, _ = io.WriteString(c, "STATUS=there\nREADY=1\n")
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			cred, err := peerOf(c)
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(c, "pid=%d peer=%d name=%s args=%q\n", os.Getpid(), cred.Pid, os.Getenv("LISTEN_FDNAMES"), os.Args[1:])
			line, _ := bufio.NewReader(c).ReadString('\n')
			if line == "end\n" {
				os.Exit(0)
			}
			_, _ = io.WriteString(c, line)
		}()
	}
}

func peerOf(c net.Conn) (cred *syscall.Ucred, err error) {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	ctlErr := raw.Control(func(fd uintptr) {
		cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	return cred, errors.Join(ctlErr, err)
}

func passing(t *testing.T, extra, mode string) (s *site, path string) {
	t.Helper()
	s = newSite(t, keepLogs)
	path = filepath.Join(s.dir, "passed")
	s.write(demo+".toml", fmt.Sprintf("binary_path = %q\n[start]\nmode = \"listen-fds\"\nlisten = %q\nargs = [\"-a\", \"b c\"]\n%s\n[start.env]\nUSHER_TEST_HELPER = \"passed\"\n%s = %q\n",
		ownBinary(t), path, extra, envMode, mode))
	return s, path
}

// TestListenFDs: the first who connects has the program started, which accepts him and those
// behind him; usher's clients are sent there; and when it has ended the next one who comes has
// it started again.
func TestListenFDs(t *testing.T) {
	for _, extra := range []string{"", "notify = true"} {
		t.Run(extra, func(t *testing.T) {
			s, path := passing(t, extra, "")
			pids := make(map[string]int)
			converse := func(c net.Conn, line string) {
				t.Helper()
				_ = c.SetDeadline(time.Now().Add(patience))
				lines := bufio.NewReader(c)
				who, err := lines.ReadString('\n')
				if want := fmt.Sprintf(`peer=%d name=%s args=["-a" "b c"]`, os.Getpid(), demo); err != nil || !strings.HasSuffix(strings.TrimSpace(who), want) {
					t.Errorf("got %q, %v, want %s", who, err, want)
				}
				pids[word(who, "pid")]++
				if _, err := io.WriteString(c, line); err != nil {
					t.Error(err)
				}
				if got, err := io.ReadAll(lines); line != "end\n" && (string(got) != line || err != nil) {
					t.Errorf("got %q, %v", got, err)
				}
				_ = c.Close()
			}
			converse(s.awaitSocket(path), "one\n")
			converse(dial(t, path), "two\n")
			c := s.mustDialWith("")
			if c.Route() != client.Reconnected {
				t.Errorf("the route is %v", c.Route())
			}
			converse(c, "three\n")
			if len(pids) != 1 {
				t.Errorf("processes %v", pids)
			}
			converse(dial(t, path), "end\n")
			testutil.WaitFor(t, "its end is known", func() bool { return s.Backends() == 0 })
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			again, err := client.Dial(ctx, client.Options{Service: demo, Version: "3.0.0", Broker: s.Socket()})
			if err != nil {
				t.Fatal(err)
			}
			converse(again, "four\n")
			if len(pids) != 2 {
				t.Errorf("processes %v", pids)
			}
			s.stop()
			if err := s.end(); err != nil {
				t.Error(err)
			}
			for pid := range pids {
				if _, err := os.Stat("/proc/" + pid); err == nil {
					t.Errorf("process %s is still there", pid)
				}
			}
		})
	}
}

// TestListenFDsFails: those in the queue are not left waiting for a program that does not come
// up, and it is not started without end.
func TestListenFDsFails(t *testing.T) {
	for _, extra := range []string{"", "notify = true"} {
		t.Run(extra, func(t *testing.T) {
			s, path := passing(t, extra, "fails")
			_ = s.awaitSocket(path).Close()
			for range 6 {
				if got, err := io.ReadAll(dial(t, path)); len(got) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("got %q, %v", got, err)
				}
			}
			if extra != "" {
				if _, err := s.once(); err == nil || !strings.Contains(err.Error(), "can't accept") {
					t.Errorf("who says Hello: %v", err)
				}
			}
			log, err := os.ReadFile(filepath.Join(s.dir, "logs", demo+".log"))
			if n := strings.Count(string(log), "can't accept"); err != nil || n < 1 || n > 3 {
				t.Errorf("%d starts, %v", n, err)
			}
		})
	}
}

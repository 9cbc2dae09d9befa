package broker_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-7265657e/usher/internal/eventlog"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// kept are the events of demo, each with what it says.
func (s *site) kept() (events []string) {
	s.tb.Helper()
	err := eventlog.Read(filepath.Join(s.dir, "logs", "events"), func(e *wire.LifecycleEvent) error {
		if e.ServiceName == demo {
			events = append(events, fmt.Sprint(eventlog.Name(e), " ", e.Extra["event"], " ", e.Pid, ": ", e.Reason))
		}
		return nil
	})
	if err != nil {
		s.tb.Fatal(err)
	}
	return events
}

// wantKept waits for events of these kinds, names and processes, in their order, whose
// reasons contain what is behind the colon.
func (s *site) wantKept(want ...string) {
	s.tb.Helper()
	var got []string
	testutil.WaitFor(s.tb, "as many events are kept", func() bool {
		got = s.kept()
		return len(got) >= len(want)
	})
	same := slices.EqualFunc(got, want, func(got, want string) bool {
		kind, reason, _ := strings.Cut(want, ": ")
		return strings.HasPrefix(got, kind+": ") && strings.Contains(got, reason)
	})
	if !same {
		s.tb.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// says reads the line in which a program says who it is.
func says(t *testing.T, c net.Conn) (pid int) {
	t.Helper()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return pidOf(t, line)
}

// TestEventsOfProcesses: the start and the end of each process that one connection has to
// itself are kept, with how it ended; and that one could not be started, with its client's
// refusal.
func TestEventsOfProcesses(t *testing.T) {
	testutil.Needs(t, "holding a program before its first instruction")
	for _, mode := range []string{"inetd", "stdio"} {
		t.Run(mode, func(t *testing.T) {
			s := inetd(t, "", nil)
			define := func(binary string) {
				s.write(demo+".toml", fmt.Sprintf("binary_path = %q\n[start]\nmode = %q\n[start.env]\nUSHER_TEST_HELPER = %q\n", binary, mode, mode))
			}
			define(ownBinary(t))
			first := s.mustDialWith("")
			one := says(t, first)
			_ = first.CloseWrite()
			testutil.WaitFor(t, "it has ended", func() bool { return s.Processes() == 0 })
			second := s.mustDialWith("")
			two := says(t, second)
			if err := syscall.Kill(two, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			testutil.WaitFor(t, "it has ended", func() bool { return s.Processes() == 0 })
			broken := filepath.Join(s.dir, "broken")
			if err := os.WriteFile(broken, []byte("no program\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			define(broken)
			if _, err := s.dialWith("request\n"); err == nil {
				t.Fatal("what is no program serves")
			}
			s.wantKept(
				fmt.Sprint("SPAWN process.started ", one, ": its log is "+filepath.Join(s.dir, "logs")),
				fmt.Sprint("DIED_SHUTDOWN process.ended ", one, ": exited with code 0"),
				fmt.Sprint("SPAWN process.started ", two, ": its log is "),
				fmt.Sprint("DIED_CRASH process.ended ", two, ": killed"),
				"PROTOCOL_DOWNGRADE handoff.fell_back 0: exec format error",
				"SPAWN_ATTEMPT process.start_failed 0: exec format error",
				fmt.Sprint("HELLO_REFUSED hello.refused ", os.Getpid(), ": exec format error"),
			)
		})
	}
}

// TestEventsOfListeners: as those of an instance of usher's, also of programs that have a
// listener of their own, or get the service's.
func TestEventsOfListeners(t *testing.T) {
	for _, test := range []struct {
		mode  string
		site  func(*testing.T) (*site, string)
		end   func(pid int, c net.Conn) error // of the first process
		ended string
	}{
		{"relay", func(t *testing.T) (*site, string) { return relayed(t, "path", "") }, func(pid int, _ net.Conn) error {
			return syscall.Kill(pid, syscall.SIGKILL)
		}, "DIED_CRASH backend.exited %d: killed"},
		{"listen-fds", func(t *testing.T) (*site, string) { return passing(t, "notify = true", "") }, func(_ int, c net.Conn) error {
			_, err := io.WriteString(c, "end\n")
			return err
		}, "DIED_SHUTDOWN backend.exited %d: exited with code 0"},
	} {
		t.Run(test.mode, func(t *testing.T) {
			s, plain := test.site(t)
			c := s.awaitSocket(plain)
			first := says(t, c)
			ready := func() bool { return s.Backends() == 1 } // which it may say behind its first answer
			testutil.WaitFor(t, "it is ready", ready)
			if err := test.end(first, c); err != nil {
				t.Fatal(err)
			}
			_ = os.Remove(filepath.Join(s.dir, "own")) // which the program of mode relay does not do
			testutil.WaitFor(t, "its end is known", func() bool { return s.Backends() == 0 })
			second := says(t, dial(t, plain))
			testutil.WaitFor(t, "it is ready", ready)
			s.stop()
			if err := s.end(); err != nil {
				t.Error(err)
			}
			s.wantKept(
				fmt.Sprint("SPAWN_ATTEMPT instance.started ", first, ": its log is "),
				fmt.Sprint("SPAWN instance.ready ", first, ": ready after "),
				fmt.Sprintf(test.ended, first),
				fmt.Sprint("SPAWN_ATTEMPT instance.started ", second, ": its log is "),
				fmt.Sprint("SPAWN instance.ready ", second, ": ready after "),
				fmt.Sprint("DIED_CRASH backend.exited ", second, ": terminated"),
			)
		})
	}
}

// TestEventsOfRefusedQueue: who waits in the queue of a socket whose program can't be
// started is refused, and that is kept with the reason, which he can't be told.
func TestEventsOfRefusedQueue(t *testing.T) {
	s, plain := passing(t, "notify = true", "fails")
	for range 5 {
		c := s.awaitSocket(plain)
		if got, err := io.ReadAll(c); len(got) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %q, %v", got, err)
		}
		_ = c.Close()
	}
	refused := 0
	testutil.WaitFor(t, "the refusals are kept", func() bool {
		refused = 0
		for _, e := range s.kept() {
			if strings.HasPrefix(e, fmt.Sprint("HELLO_REFUSED hello.refused ", os.Getpid(), ": ERROR_BACKEND_SPAWN_FAILED: ")) && strings.Contains(e, "can't accept") {
				refused++
			}
		}
		return refused >= 5
	})
}

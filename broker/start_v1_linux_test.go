package broker_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/identity"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// v1Instance is a backend that knows nothing but spec 03 §11: the descriptor of its
// socket, and the probe. Its misbehaviours are those of envMode.
func v1Instance() error {
	pipe, namespace := os.Getenv("RUNNING_PROCESS_BROKER_V1_BACKEND_PIPE"), os.Getenv("RUNNING_PROCESS_BROKER_V1_BACKEND_NAMESPACE")
	number, err := strconv.Atoi(os.Getenv("RUNNING_PROCESS_BROKER_LISTENER_FD"))
	if err != nil {
		return err
	}
	flags, err := unix.FcntlInt(uintptr(number), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_NONBLOCK != 0 {
		return fmt.Errorf("descriptor %d: flags %#x, %w", number, flags, err)
	}
	if _, set := os.LookupEnv("USHER_CHANNEL"); set || os.Getenv("RUNNING_PROCESS_IS_DAEMON") != "1" {
		return errors.New("it is no v1 environment")
	}
	l, err := net.FileListener(os.NewFile(uintptr(number), "listener"))
	if err != nil {
		return err
	}
	switch os.Getenv(envMode) {
	case "exits":
		return errors.New("can't serve")
	case "silent":
		select {}
	case "hangs up":
		for {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			_ = c.Close()
		}
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			if err := answerV1(c, namespace, pipe); err != nil {
				fmt.Println(err)
			}
		}()
	}
}

// answerV1 answers a probe, or each line of a client with who it is.
func answerV1(c net.Conn, namespace, pipe string) error {
	in := bufio.NewReader(c)
	if first, err := in.Peek(1); err != nil {
		return err
	} else if first[0] != 1 {
		for {
			if _, err := in.ReadString('\n'); err != nil {
				return err
			}
			if _, err := fmt.Fprintf(c, "pid=%d namespace=%s\n", os.Getpid(), namespace); err != nil {
				return err
			}
		}
	}
	f, _, err := frame.Read(in, frame.MaxBody)
	if err != nil {
		return err
	}
	self, legacy, err := identity.Self(namespace, pipe)
	if err != nil {
		return err
	}
	if os.Getenv(envMode) == "lies" {
		self.Pid++
	}
	answer, err := identity.AnswerProbe(f, self, legacy)
	if err != nil {
		return err
	}
	_, err = frame.Write(c, answer)
	return err
}

// v1Handoffs is an instance of usher's SDK that a v1 definition starts, and that no broker
// takes in: it is reached by the v1 exchange.
func v1Handoffs() error {
	l, err := backend.Listen(context.Background(), backend.Options{Broker: "/nonexistent/b.sock", HandoffEndpoint: os.Getenv("ENDPOINT")})
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return nil
		}
		go func() {
			defer c.Close()
			for lines := bufio.NewScanner(c); lines.Scan(); {
				_, _ = fmt.Fprintf(c, "pid=%d\n", os.Getpid())
			}
		}()
	}
}

func (s *site) defineV1(helper, mode, start string) {
	s.tb.Helper()
	s.write(demo+".toml", fmt.Sprintf("binary_path = %q\n[start]\nprotocol = \"v1\"\n%s\n[start.env]\nUSHER_TEST_HELPER = %q\n%s = %q\nENDPOINT = %q\n",
		ownBinary(s.tb), start, helper, envMode, mode, s.endpoint()))
}

// endpoint is where instances take v1 handoffs.
func (s *site) endpoint() string { return filepath.Join(s.dir, "h.sock") }

// pipesLeft are the pipes that instances have left behind.
func (s *site) pipesLeft() []string {
	s.tb.Helper()
	left, err := filepath.Glob(filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "running-process", "broker", "*-be-*.sock"))
	if err != nil {
		s.tb.Fatal(err)
	}
	return left
}

// TestStartV1: an instance that knows only the descriptor it has inherited is started
// once for all who ask, found by one probe, and its clients reconnect to it. When it has
// died the next one is started, and nothing of it is left.
func TestStartV1(t *testing.T) {
	s := starting(t, "", "")
	t.Setenv("XDG_RUNTIME_DIR", s.dir)
	s.defineV1("v1 instance", "", "")
	answers := make([]string, 32)
	var wg sync.WaitGroup
	for n := range answers {
		wg.Go(func() {
			var err error
			if answers[n], err = s.who(demoVersion); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if distinct := slices.Compact(slices.Sorted(slices.Values(answers))); len(distinct) != 1 || word(distinct[0], "namespace") != "shared" {
		t.Fatalf("got %q", distinct)
	}
	checkHandoffs(t, s, handoffCounts{})
	pid, err := strconv.Atoi(word(answers[0], "pid"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "its end is seen", func() bool { return s.Backends() == 0 })
	testutil.WaitFor(t, "its pipe is gone", func() bool { return len(s.pipesLeft()) == 0 })
	if next := s.mustAsk(demoVersion); word(next, "pid") == word(answers[0], "pid") {
		t.Errorf("served by the dead: %s", next)
	}
	want := []string{"SPAWN_ATTEMPT", "SPAWN", "DIED_CRASH", "SPAWN_ATTEMPT", "SPAWN"}
	testutil.WaitFor(t, "events are kept", func() bool { return len(s.events()) >= len(want) })
	if got := s.events(); !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
}

// TestStartV1Fails: who does not answer, or answers for somebody else, is ended, and all
// who wait are told why.
func TestStartV1Fails(t *testing.T) {
	for mode, want := range map[string]string{
		"exits":    "exited with code 1 before it was ready: v1 instance: can't serve",
		"silent":   "was not ready in 300ms, and was ended",
		"hangs up": "did not prove who it is, and was ended: identity probe: ",
		"lies":     "and was ended: it says that it is process",
	} {
		t.Run(mode, func(t *testing.T) {
			start := ""
			if mode == "silent" {
				start = "timeout = \"300ms\""
			}
			s := starting(t, "", "")
			t.Setenv("XDG_RUNTIME_DIR", s.dir)
			s.defineV1("v1 instance", mode, start)
			if answer, err := s.who(demoVersion); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q, %v; want %q", answer, err, want)
			}
			testutil.WaitFor(t, "its pipe is gone", func() bool { return len(s.pipesLeft()) == 0 })
		})
	}
}

// TestStartV1Handoff: with a handoff endpoint connections go over by the v1 exchange.
func TestStartV1Handoff(t *testing.T) {
	s := starting(t, "", "")
	t.Setenv("XDG_RUNTIME_DIR", s.dir)
	s.defineV1("v1 handoffs", "", fmt.Sprintf("handoff_endpoint = %q", s.endpoint()))
	c, err := client.Dial(t.Context(), client.Options{Service: demo, Version: demoVersion, Broker: s.Socket(), Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("who\n")); err != nil {
		t.Fatal(err)
	}
	if answer, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.HasPrefix(answer, "pid=") || c.Route() != client.HandedOver {
		t.Errorf("%q, %v, %s", answer, err, c.Route())
	}
	checkHandoffs(t, s, handoffCounts{Adopted: 1})
}

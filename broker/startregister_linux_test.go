package broker_test

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// givenEnded says that the channel has ended that this process was given.
var givenEnded atomic.Bool

// refuseChannel makes this process one whose SDK knows no channel that is given.
func refuseChannel() {
	given, _, _ := strings.Cut(os.Getenv(endpoint.ChannelVariable), ",")
	_ = os.Unsetenv(endpoint.ChannelVariable)
	fd, err := strconv.Atoi(given)
	if err != nil {
		return
	}
	if os.Getenv(envMode) == "closes and registers" { // as a daemon does with what it has inherited
		_ = syscall.Close(fd)
		return
	}
	_ = syscall.SetNonblock(fd, false)
	go func() {
		n, err := syscall.Read(fd, make([]byte, 1))
		givenEnded.Store(n == 0 && err == nil)
	}()
}

// TestStartedAndRegistered: an instance that was started, and registers instead of saying on
// the channel that it was given that it is ready, is ready: it is not ended at the deadline
// of its start, and is one instance as any other.
func TestStartedAndRegistered(t *testing.T) {
	s := starting(t, "", "registers")
	pid := pidOf(t, s.mustAsk(demoVersion))
	all := s.instances()
	if len(all) != 1 || all[0].PID != pid || all[0].State != "ready" || all[0].Log == "" {
		t.Errorf("instances %+v, want %d alone, ready", all, pid)
	}
	if s.Launched() {
		t.Error("its start goes on")
	}
	testutil.WaitFor(t, "the channel that it was given has ended", func() bool {
		answer := s.mustAsk(demoVersion)
		if again := pidOf(t, answer); again != pid {
			t.Fatalf("served by %d, then by %d", pid, again)
		}
		return word(answer, "given") == "false"
	})
	if o := s.control(verbRestart, "", patience); o.results() != "started drains" {
		t.Errorf("restart: %+v", o)
	}
	second := pidOf(t, s.mustAsk(demoVersion))
	if second == pid {
		t.Error("not restarted")
	}
	testutil.WaitFor(t, "the first has ended", func() bool { return len(s.instances()) == 1 })
	if err := syscall.Kill(second, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "the end is kept", func() bool { return slices.Contains(s.events(), "DIED_CRASH") })
	testutil.WaitFor(t, "none is left", func() bool { return len(s.instances()) == 0 })
	want := []string{"DIED_CRASH", "REPLACED_BY_NEWER", "SPAWN", "SPAWN", "SPAWN", "SPAWN", "SPAWN_ATTEMPT", "SPAWN_ATTEMPT", "instance.let_go"}
	got := s.events()
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	if o := s.control(verbStop, "", patience); !o.Done {
		t.Errorf("stop of nothing: %+v", o)
	}
	third := pidOf(t, s.mustAsk(demoVersion))
	if o := s.control(verbStop, "", patience); !o.Done || o.results() != "ended" || o.Instances[0].PID != third {
		t.Errorf("stop: %+v", o)
	}
}

// TestRegisteredBeforeItIsKnown: an instance may register before the broker knows that it has
// started it: it is the one that was started all the same, and its end is that of no start.
func TestRegisteredBeforeItIsKnown(t *testing.T) {
	s := starting(t, "", "closes and registers")
	release := make(chan struct{})
	failpoint.Set(func(at failpoint.Point) {
		if at == failpoint.BrokerLaunched {
			failpoint.Set(nil)
			<-release
		}
	})
	t.Cleanup(func() { failpoint.Set(nil) })
	answered := make(chan string)
	go func() {
		defer close(answered)
		answer, err := s.who(demoVersion)
		if err != nil {
			t.Error(err)
		}
		answered <- answer
	}()
	testutil.WaitFor(t, "it waits to be registered", func() bool { n, _ := s.Pending(); return n == 2 })
	close(release)
	first := pidOf(t, <-answered)
	if all := s.instances(); len(all) != 1 || all[0].PID != first || all[0].Log == "" {
		t.Errorf("instances %+v, want %d alone, as one that was started", all, first)
	}
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "none is left", func() bool { return len(s.instances()) == 0 })
	s.mustAsk(demoVersion) // at once: no start has failed
}

// TestClosedAndRegistered: an instance that has closed the channel that it was given is one as
// any other once it has registered: what it was given is over, and what it asked for is not.
func TestClosedAndRegistered(t *testing.T) {
	s := starting(t, "", "closes and registers")
	first := pidOf(t, s.mustAsk(demoVersion))
	if again := pidOf(t, s.mustAsk(demoVersion)); again != first {
		t.Errorf("served by %d, then by %d", first, again)
	}
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "none is left", func() bool { return len(s.instances()) == 0 })
	second := pidOf(t, s.mustAsk(demoVersion))
	if o := s.control(verbStop, "", patience); !o.Done || o.results() != "ended" || o.Instances[0].PID != second {
		t.Errorf("stop: %+v", o)
	}
}

// TestRegistersTooLate: an instance that registers when its start is over, and it is being
// ended, gets nobody who waits.
func TestRegistersTooLate(t *testing.T) {
	s := starting(t, `timeout = "1s"`, "registers when it is to end")
	if answer, err := s.who(demoVersion); err == nil || !strings.Contains(err.Error(), "was not ready in 1s") {
		t.Errorf("got %q, %v", answer, err)
	}
}

// TestStartedAndAnotherRegistered: a backend that somebody has started by hand serves those
// who wait for a start, and is not what was started.
func TestStartedAndAnotherRegistered(t *testing.T) {
	s := starting(t, `timeout = "1h"`, "hangs")
	answered := make(chan error, 1)
	go func() {
		_, err := s.who(demoVersion)
		answered <- err
	}()
	testutil.WaitFor(t, "one is started", s.Launched)
	l, err := backend.Listen(t.Context(), backend.Options{Service: demo, Version: demoVersion, Broker: s.Socket(), Pipe: filepath.Join(s.dir, "hand")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // before every backend is killed
		_ = l.Close()
		testutil.WaitFor(t, "this process is none any more", func() bool { return s.Backends() == 0 })
	})
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	states := make(map[string]int)
	for _, i := range s.instances() {
		states[i.State] = i.PID
	}
	if states["ready"] != os.Getpid() || states["starting"] == 0 || states["starting"] == os.Getpid() {
		t.Fatalf("processes by state: %v", states)
	}
	_, _ = io.WriteString(c, "pid\n")
	_ = c.Close()
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(-states["starting"], syscall.SIGKILL); err != nil { // with what it has started
		t.Fatal(err)
	}
	testutil.WaitFor(t, "the start has failed", func() bool { return len(s.instances()) == 1 })
}

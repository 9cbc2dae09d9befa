package usher_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/world"
)

// journalName is the file in the state directory where daemons write down what they run.
const journalName = "journal"

// What callAgain does.
const (
	envCalls = "USHER_TEST_CALLS" // how many, at most
	envPause = "USHER_TEST_PAUSE" // between two of them, at most: a duration
)

// Verdicts of a call.
const (
	answered = "answered"
	unknown  = "unknown"
	failed   = "failed"
)

// callAgain makes calls until standard input ends, and says of each in a line what became
// of it.
func callAgain(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	most, err := strconv.Atoi(os.Getenv(envCalls))
	if err != nil {
		panic(err)
	}
	pause, _ := time.ParseDuration(os.Getenv(envPause)) // none is none
	told := make(chan struct{})
	go func() {
		defer close(told)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	said := bufio.NewWriter(os.Stdout)
	defer said.Flush()
	for n := range most {
		select {
		case <-told:
			return
		case <-time.After(rand.N(pause + 1)):
		}
		id := fmt.Sprintf("%d-%d", os.Getpid(), n)
		answer, err := callOnce(ctx, id)
		verdict := answered
		switch {
		case errors.Is(err, client.ErrOutcomeUnknown):
			verdict = unknown
		case err != nil || field(answer, "said") != id:
			verdict = failed
		}
		fmt.Fprintln(said, verdict, id, field(answer, "pid"), err)
	}
}

func callOnce(ctx context.Context, id string) (answer string, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var c net.Conn
	if c, err = tool.DialWith(ctx, []byte(id+"\n")); err != nil {
		return "", err
	}
	defer c.Close()
	by, _ := ctx.Deadline()
	_ = c.SetDeadline(by)
	return bufio.NewReader(c).ReadString('\n')
}

// caller is a process that calls again and again.
type caller struct {
	cmd *exec.Cmd
	in  io.Closer
	out strings.Builder
}

// startCallers starts n of them.
func (i *installed) startCallers(n, calls int, pause time.Duration) []*caller {
	i.t.Helper()
	callers := make([]*caller, n)
	for k := range callers {
		c := &caller{cmd: i.commandFor(10*time.Minute, "again", envCalls+"="+strconv.Itoa(calls), envPause+"="+pause.String())}
		in, err := c.cmd.StdinPipe()
		c.cmd.Stdout, c.in, callers[k] = &c.out, in, c
		if err = errors.Join(err, c.cmd.Start()); err != nil {
			i.t.Fatal(err)
		}
	}
	return callers
}

// sum is what became of calls.
type sum struct {
	verdicts map[string]int
	daemons  map[string]bool // that answered
}

// end waits for the callers' end, has it come, if told, and judges: nothing ran twice, and
// what was answered once.
func (i *installed) end(callers []*caller, tell bool) sum {
	i.t.Helper()
	s := sum{make(map[string]int), make(map[string]bool)}
	var lines []string
	for _, c := range callers {
		if tell {
			_ = c.in.Close()
		}
		if err := c.cmd.Wait(); err != nil {
			i.t.Error(err)
		}
		lines = append(lines, strings.Split(strings.TrimSpace(c.out.String()), "\n")...)
	}
	ran := i.ran()
	for _, line := range lines {
		part := strings.SplitN(line, " ", 4)
		verdict, id := part[0], part[1]
		s.verdicts[verdict]++
		switch times := ran[id]; {
		case verdict == failed:
			i.t.Error(line)
		case times > 1 || verdict == answered && times != 1:
			i.t.Errorf("ran %d times: %s", times, line)
		case verdict == answered:
			s.daemons[part[2]] = true
		}
	}
	return s
}

// ran counts what the daemons have run, by id.
func (i *installed) ran() map[string]int {
	i.t.Helper()
	content, err := os.ReadFile(filepath.Join(i.Dir, journalName))
	if err != nil {
		i.t.Fatal(err)
	}
	ran := make(map[string]int)
	for id := range strings.Lines(string(content)) {
		ran[strings.TrimSuffix(id, "\n")]++
	}
	return ran
}

// nothingLeft ends all processes of the tool, and looks for what they leave.
func (i *installed) nothingLeft() {
	i.t.Helper()
	if err := i.End(i.t.Context()); err != nil {
		i.t.Error(err)
	}
	left, err := filepath.Glob(filepath.Join(i.Dir, "running-process", "broker", "*"))
	if err != nil {
		i.t.Error(err)
	}
	for _, path := range left {
		if strings.HasSuffix(path, ".sock") {
			i.t.Errorf("left: %s", path)
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			i.t.Error(err)
			continue
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			i.t.Errorf("lock %s: %v", path, err)
		}
		_ = f.Close()
	}
}

// TestBrokerKilledUnderLoad kills the tool's broker while 8 processes call, which start the
// next one. Of calls that were in flight at the broker the outcome may be unknown, two of a
// process at most, for one that hears of the end at once finds the dead broker's queue still
// open; all others are answered, once, by the one daemon, and a connection from before lives
// on.
func TestBrokerKilledUnderLoad(t *testing.T) {
	testutil.Needs(t, "watches, by which a daemon sees the next broker at once")
	const processes = 8
	i := install(t)
	old := i.stays()
	daemon := pid(t, old.says("first"))
	var brokers []int
	kill := func() {
		t.Helper()
		testutil.WaitFor(t, "one broker", func() bool {
			brokers = slices.DeleteFunc(i.processes(), func(p int) bool { return p == daemon })
			return len(brokers) == 1
		})
		if err := syscall.Kill(brokers[0], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	call := func() (answer string) {
		t.Helper()
		testutil.WaitFor(t, "a call is answered", func() bool { // one that is in flight at the dead one is not
			out, err := i.command("x").Output()
			answer = string(out)
			return err == nil
		})
		return answer
	}
	kill() // so that the daemon has opened what it needs for the next one
	if p := pid(t, call()); p != daemon {
		t.Errorf("served by %d, not by %d", p, daemon)
	}
	held, err := world.Descriptors(daemon)
	if err != nil {
		t.Fatal(err)
	}
	callers := i.startCallers(processes, 1<<30, time.Millisecond)
	testutil.WaitFor(t, "all of them call", func() bool {
		ran := i.ran()
		return !slices.ContainsFunc(callers, func(c *caller) bool { return ran[fmt.Sprintf("%d-0", c.cmd.Process.Pid)] == 0 })
	})
	kills := testutil.Repeat(t, "USHER_TEST_KILLS", 20, 3)
	var back []time.Duration
	for n := range kills {
		kill()
		began := time.Now()
		if p := pid(t, call()); p != daemon {
			t.Errorf("kill %d: served by %d, not by %d", n, p, daemon)
		}
		back = append(back, time.Since(began))
		if p := pid(t, old.says("again")); p != daemon {
			t.Errorf("kill %d: the old connection is served by %d", n, p)
		}
	}
	s := i.end(callers, true)
	if s.verdicts[unknown] > kills*2*processes || len(s.daemons) != 1 || s.verdicts[answered] < kills {
		t.Errorf("%v by %d daemons", s.verdicts, len(s.daemons))
	}
	testutil.WaitFor(t, "the daemon holds no more than before", func() bool {
		now, err := world.Descriptors(daemon)
		return err == nil && now <= held
	})
	old.ends()
	slices.Sort(back)
	t.Logf("%d kills: %v; from the kill until a call was answered through the next broker, its process' start included: median %v, at most %v",
		kills, s.verdicts, back[kills/2].Round(time.Millisecond), back[kills-1].Round(time.Millisecond))
	i.nothingLeft()
}

// TestCallsWhileAllEnds: daemon and broker end for want of clients at random moments, and
// each call is served. USHER_TEST_HELLOS=10000 is the number that the project holds itself
// to.
func TestCallsWhileAllEnds(t *testing.T) {
	const processes = 4
	i := install(t)
	i.idle = 5 * time.Millisecond
	calls := testutil.Repeat(t, "USHER_TEST_HELLOS", 400, 80)
	const rounds = 4 // so that all end even where a busy machine leaves no pause between calls
	each := (calls + rounds*processes - 1) / (rounds * processes)
	daemons := make(map[string]bool)
	for range rounds {
		s := i.end(i.startCallers(processes, each, 8*i.idle), false)
		if n := s.verdicts[answered]; n < processes*each {
			t.Errorf("%v", s.verdicts)
		}
		maps.Copy(daemons, s.daemons)
		testutil.WaitFor(t, "all have ended", func() bool { return len(i.processes()) == 0 })
	}
	t.Logf("%d calls answered by %d daemons", rounds*processes*each, len(daemons))
	if len(daemons) < rounds {
		t.Error("those that have ended answer")
	}
	i.nothingLeft()
}

// TestSocketRemoved: a broker whose name is removed, or is another's, ends; the next call
// starts another one, which leads to the daemon that is there, and connections live on.
func TestSocketRemoved(t *testing.T) {
	i := install(t)
	old := i.stays()
	daemon := pid(t, old.says("first"))
	var brokers []int
	for _, replace := range []func(string) error{
		os.Remove,
		func(path string) error {
			ln, err := net.Listen("unix", path+".other")
			if err != nil {
				return err
			}
			ln.(*net.UnixListener).SetUnlinkOnClose(false)
			return errors.Join(os.Rename(path+".other", path), ln.Close())
		},
	} {
		sockets, err := filepath.Glob(filepath.Join(i.Dir, "running-process", "broker", "*-svc-*.sock"))
		if len(sockets) != 1 || err != nil {
			t.Fatalf("sockets %q, %v", sockets, err)
		}
		before := slices.DeleteFunc(i.processes(), func(p int) bool { return p == daemon })
		if err := replace(sockets[0]); err != nil {
			t.Fatal(err)
		}
		if p := pid(t, i.calls("x")); p != daemon {
			t.Errorf("the next call is served by %d, not by %d", p, daemon)
		}
		if p := pid(t, old.says("again")); p != daemon {
			t.Errorf("the connection is served by %d, not by %d", p, daemon)
		}
		testutil.WaitFor(t, "the broker before has ended", func() bool { return world.Ended(before[0]) })
		brokers = append(brokers, before...)
	}
	if len(brokers) != 2 || brokers[0] == brokers[1] {
		t.Errorf("brokers %v", brokers)
	}
	old.ends()
	i.nothingLeft()
}

// TestDaemonsChildHoldsNothing: a child that a daemon has started keeps neither a client's
// connection nor the channel to the broker open when the daemon dies.
func TestDaemonsChildHoldsNothing(t *testing.T) {
	i := install(t)
	env := envDaemon + "=has a child"
	old := i.stays(env)
	daemon := pid(t, old.says("first"))
	children := testutil.Children(t, daemon)
	if len(children) != 1 {
		t.Fatalf("children %v", children)
	}
	child := children[0]
	defer func() { _ = syscall.Kill(child, syscall.SIGKILL) }()
	if err := syscall.Kill(daemon, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "the daemon has ended", func() bool { return world.Ended(daemon) })
	if _, err := fmt.Fprintln(old.in, "second"); err != nil {
		t.Fatal(err)
	}
	if line, err := old.out.ReadString('\n'); err == nil && strings.HasPrefix(line, "pid=") {
		t.Errorf("answered: %q", line)
	}
	if world.Ended(child) {
		t.Error("the end came with the child's, or nothing is shown")
	}
	if p := pid(t, i.calls("x", env)); p == daemon {
		t.Error("the dead one answers")
	}
	_ = old.in.Close()
	_ = old.cmd.Wait() // it has failed, as it should
}

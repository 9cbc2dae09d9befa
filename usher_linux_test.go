package usher_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/world"
)

// What a call of the tool does, and how its daemon behaves. Both are variables of the
// caller; the daemon gets those in EnvKey alone.
const (
	envCall   = "USHER_TEST_CALL"
	envDaemon = "USHER_TEST_DAEMON"
	envIdle   = "USHER_TEST_IDLE" // a duration; the daemon gets it as IdleTimeout

	envForgets = "LC_USHER_TEST_FORGETS" // main does not call Main; the broker gets every LC_ variable
)

// other is a second tool of the same executable.
var other = usher.Tool{Name: "othertool", Serve: serve}

var tool = usher.Tool{
	Name: "testtool", Version: "1.2.3", Serve: serve,
	EnvKey: []string{envDaemon, "GOVERSION"}, StartTimeout: 20 * time.Second,
	Busy: func() bool {
		_, err := os.Stat(filepath.Join(os.Getenv("XDG_STATE_HOME"), workName))
		return err == nil
	},
}

// workName is the file in the state directory by whose presence daemons are at work.
const workName = "work"

// serve answers each line with what the daemon is.
func serve(ctx context.Context, ln net.Listener) error {
	switch os.Getenv(envDaemon) {
	case "exits":
		fmt.Println("no cache directory")
		return errors.New("can't serve")
	case "dies":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "has a child":
		if err := exec.Command("sleep", "60").Start(); err != nil {
			return err
		}
	case "hangs":
		fmt.Println("waiting for the licence server")
		<-ctx.Done()
		select {}
	}
	journal, err := os.OpenFile(filepath.Join(os.Getenv("XDG_STATE_HOME"), journalName), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	for {
		c, err := ln.Accept()
		if err != nil && os.Getenv(envDaemon) == "clings" {
			select {}
		}
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			for lines := bufio.NewScanner(c); lines.Scan(); {
				_, _ = fmt.Fprintln(journal, lines.Text())
				wd, _ := os.Getwd()
				_, err := fmt.Fprintf(c, "pid=%d dir=%s go=%s accidental=%q ushers=%d said=%s\n",
					os.Getpid(), wd, os.Getenv("GOVERSION"), os.Getenv("ACCIDENTAL"), len(ushers()), lines.Text())
				if err != nil {
					return
				}
			}
		}()
	}
}

// ushers are the variables that usher itself has given to this process, which its children
// would have too.
func ushers() (env []string) {
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "USHER_") && !strings.HasPrefix(v, "USHER_TEST_") || strings.HasPrefix(v, "RUNNING_PROCESS_") {
			env = append(env, v)
		}
	}
	return env
}

func TestMain(m *testing.M) {
	if idle, err := time.ParseDuration(os.Getenv(envIdle)); err == nil {
		tool.IdleTimeout = idle
	}
	if os.Getenv(envForgets) != "" {
		call("x")
	}
	tool.Main()
	other.Main()
	if what := os.Getenv(envCall); what != "" {
		call(what)
	}
	testutil.Main(m, nil)
}

// call is one call of the tool. It does not return.
func call(what string) {
	tool := tool
	if what == "other" {
		tool = other
	}
	patience := time.Minute
	if start, err := time.ParseDuration(os.Getenv("TOOL_START_TIMEOUT")); err == nil {
		tool.StartTimeout, patience = start, 20*time.Second // so that a try in half a minute is none to wait for
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tool.Key, tool.Dir = os.Getenv("TOOL_KEY"), os.Getenv("TOOL_DIR")
	fail := func(err error) {
		fmt.Println(err)
		os.Exit(1)
	}
	switch what {
	case "stdio":
		if err := tool.Stdio(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err) // standard output is the daemon's
			os.Exit(1)
		}
	case "again":
		callAgain(ctx)
	case "stays": // until its input ends
		c, err := tool.Dial(ctx)
		if err != nil {
			fail(err)
		}
		answers := bufio.NewScanner(c)
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			if _, err := fmt.Fprintln(c, lines.Text()); err != nil {
				fail(err)
			}
			if !answers.Scan() {
				fail(answers.Err())
			}
			fmt.Println(answers.Text())
		}
	case "status", "stop", "logs":
		if err := look(ctx, what); err != nil {
			fail(err)
		}
	default:
		c, err := tool.DialWith(ctx, []byte(what+"\n"))
		if err != nil {
			fail(err)
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			fail(err)
		}
		fmt.Print(line)
	}
	os.Exit(0)
}

// installed is the tool as somebody has it. At the test's end every process of it is
// ended.
type installed struct {
	*world.Installed
	t    *testing.T
	idle time.Duration
}

func install(t *testing.T) *installed {
	t.Helper()
	i, err := world.Install("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(i.Logs())
		}
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(i.Dir, journalName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return &installed{Installed: i, t: t}
}

// command is a call of the tool, which has not begun.
func (i *installed) command(what string, env ...string) *exec.Cmd {
	return i.commandFor(5*time.Minute, what, env...)
}

// commandFor is command with a time after which it is killed.
func (i *installed) commandFor(most time.Duration, what string, env ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), most)
	i.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, i.Bin)
	cmd.Env = append(slices.Clone(i.Env), append(env, envCall+"="+what)...)
	if i.idle > 0 {
		cmd.Env = append(cmd.Env, envIdle+"="+i.idle.String())
	}
	return cmd
}

// calls makes one call, and returns what it printed.
func (i *installed) calls(what string, env ...string) string {
	i.t.Helper()
	out, err := i.command(what, env...).Output()
	if err != nil {
		i.t.Errorf("call %s %s: %v: %s", what, env, err, out)
	}
	return string(out)
}

// field is the value of name in a daemon's answer.
func field(answer, name string) string {
	_, rest, _ := strings.Cut(answer, name+"=")
	value, _, _ := strings.Cut(rest, " ")
	return strings.TrimSpace(value)
}

func pid(t *testing.T, answer string) int {
	t.Helper()
	n, err := strconv.Atoi(field(answer, "pid"))
	if err != nil {
		t.Fatalf("no pid in %q", answer)
	}
	return n
}

func (i *installed) processes() []int {
	i.t.Helper()
	pids, err := i.Processes()
	if err != nil {
		i.t.Error(err)
	}
	return pids
}

// together runs n calls that begin at once, and returns what each printed, whether it
// failed, and how long it took.
func (i *installed) together(n int, env ...string) (said []string, failed int, slowest time.Duration) {
	i.t.Helper()
	said = make([]string, n)
	took := make([]time.Duration, n)
	errs := make([]error, n)
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for k := range n {
		cmd := i.command("together", env...)
		wg.Go(func() {
			<-begin
			began := time.Now()
			out, err := cmd.Output()
			said[k], errs[k], took[k] = string(out), err, time.Since(began)
		})
	}
	close(begin)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			failed++
		}
	}
	return said, failed, slices.Max(took)
}

// TestNobodyHangs: whoever waits for the end of every pipe that a call had is not kept by
// broker or daemon, which live on.
func TestNobodyHangs(t *testing.T) {
	for name, script := range map[string]string{
		"command substitution": `out=$("$0"); echo "$out"`,
		"a pipe":               `"$0" | cat`,
		"standard error":       `"$0" 2>&1 | cat`,
		"a stray descriptor":   `exec 9>&1; "$0" | cat`,
		"no descriptors":       `"$0" >&- 2>&- <&-; echo pid=1`,
		"background":           `"$0" & wait`,
	} {
		t.Run(name, func(t *testing.T) {
			i := install(t)
			cmd := i.command("x")
			cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", script, i.Bin}
			out, err := cmd.Output() // to the end of every copy of its pipe
			if err != nil || !bytes.HasPrefix(out, []byte("pid=")) {
				t.Errorf("%v: %s", err, out)
			}
			if n := len(i.processes()); n != 2 && name != "no descriptors" {
				t.Errorf("%d processes live on", n)
			}
		})
	}
}

// TestIdle: without a client the daemon goes, then the broker, and nothing is left; the
// next call starts anew.
func TestIdle(t *testing.T) {
	i := install(t)
	i.idle = 50 * time.Millisecond
	for range 3 {
		i.calls("x")
		testutil.WaitFor(t, "all have ended", func() bool { return len(i.processes()) == 0 })
		if left, err := i.Sockets(); len(left) > 0 || err != nil {
			t.Errorf("left: %q, %v", left, err)
		}
	}
}

// TestCallsWhileIdle: whatever a call meets, a daemon that is going, a broker that is
// going, or neither, it is served.
func TestCallsWhileIdle(t *testing.T) {
	i := install(t)
	i.idle = time.Millisecond
	for n := range 100 {
		if said := i.calls(strconv.Itoa(n)); field(said, "said") != strconv.Itoa(n) {
			t.Fatalf("call %d: %q", n, said)
		}
	}
}

// TestTwoTools: one executable may have several, each with a broker and a daemon.
func TestTwoTools(t *testing.T) {
	i := install(t)
	first, second := pid(t, i.calls("x")), pid(t, i.calls("other"))
	if n := len(i.processes()); n != 4 || first == second {
		t.Errorf("%d processes, want two brokers and two daemons; daemons %d and %d", n, first, second)
	}
}

// TestServeDoesNotReturn: such a daemon ends all the same.
func TestServeDoesNotReturn(t *testing.T) {
	if testing.Short() {
		t.Skip("it is given 10 s")
	}
	i := install(t)
	i.idle = 50 * time.Millisecond
	i.calls("x", envDaemon+"=clings")
	if err := world.Until(t.Context(), "all have ended", func() (bool, error) { return len(i.processes()) == 0, nil }); err != nil {
		t.Error(err)
	}
}

// TestKilled: after the daemon, or the broker, has been killed, the next call is served;
// the daemon of a broker that was killed serves on, its connections and new ones.
func TestKilled(t *testing.T) {
	i := install(t)
	first := pid(t, i.calls("x"))
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	stays := i.stays()
	second := pid(t, stays.says("one"))
	if first == second {
		t.Error("the dead one answers")
	}
	for _, p := range i.processes() {
		if p != second {
			if err := syscall.Kill(p, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	testutil.WaitFor(t, "nobody listens where the broker did", func() bool { // else the next call's request may go with it
		sockets, err := filepath.Glob(filepath.Join(i.Dir, "running-process", "broker", "*-svc-*.sock"))
		if len(sockets) != 1 || err != nil {
			t.Fatalf("sockets %q, %v", sockets, err)
		}
		c, err := net.Dial("unix", sockets[0])
		if err == nil {
			_ = c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	if p := pid(t, stays.says("two")); p != second {
		t.Errorf("the connection is served by %d, not by %d", p, second)
	}
	if p := pid(t, i.calls("x")); p != second {
		t.Errorf("the next call is served by %d, not by %d", p, second)
	}
	stays.ends()
}

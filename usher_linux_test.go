package usher_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
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

// TestFirstCallsAtOnce: 64 calls from nothing start one broker and one daemon, and each is
// served.
func TestFirstCallsAtOnce(t *testing.T) {
	for range 3 {
		i := install(t)
		said, failed, _ := i.together(64)
		daemons := make(map[int]bool)
		for _, answer := range said {
			if !strings.HasPrefix(answer, "pid=") {
				t.Errorf("got %q", answer)
				continue
			}
			daemons[pid(t, answer)] = true
		}
		if n := len(i.processes()); failed > 0 || len(daemons) != 1 || n != 2 {
			t.Errorf("%d failed; %d daemons answered; %d processes live on, want broker and daemon", failed, len(daemons), n)
		}
		if err := i.End(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestDaemonExits: all who wait are told the same at once: how it ended, what it said, and
// where its log is. No process is left but the broker, and no zombie.
func TestDaemonExits(t *testing.T) {
	i := install(t)
	said, failed, _ := i.together(64, envDaemon+"=exits")
	for k := range said { // a busy machine's last ones come when three of them have exited
		said[k] = strings.Replace(said[k], "it was started 3 times in 30s: ", "", 1)
	}
	slices.Sort(said)
	said = slices.Compact(said)
	if failed != 64 || len(said) != 1 {
		t.Errorf("%d of 64 failed, with %d texts: %q", failed, len(said), said)
	}
	if strings.Contains(said[0], "usher service") {
		t.Errorf("speaks of a definition, which a tool has not: %s", said[0])
	}
	for _, part := range []string{"exited with code 1 before it was ready", "no cache directory", "can't serve", "its log is " + i.Dir} {
		if !strings.Contains(said[0], part) {
			t.Errorf("%q is not in %s", part, said[0])
		}
	}
	alive := i.processes()
	if len(alive) != 1 {
		t.Fatalf("%d processes, want the broker's alone", len(alive))
	}
	if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", alive[0])); !testutil.Portable && string(name) != tool.Name+"\n" || err != nil {
		t.Errorf("the broker is called %q, %v", name, err)
	}
}

// TestDaemonFails: a daemon that is killed, and one that does not become ready, are told
// apart; after three tries nobody starts it for a while, and the last reason is given.
func TestDaemonFails(t *testing.T) {
	i := install(t)
	for daemon, parts := range map[string][]string{
		"dies":  {"was ended by signal: killed"},
		"hangs": {"was not ready in 5s, and was ended", "waiting for the licence server"},
	} {
		t.Run(daemon, func(t *testing.T) {
			out, err := i.command("x", envDaemon+"="+daemon, "TOOL_START_TIMEOUT=5s").Output()
			for _, part := range parts {
				if err == nil || !strings.Contains(string(out), part) {
					t.Errorf("%v: %s: want %q", err, out, part)
				}
			}
			if daemon == "hangs" {
				return
			}
			testutil.WaitFor(t, "it is not started any more", func() bool {
				out, err = i.command("x", envDaemon+"="+daemon, "TOOL_START_TIMEOUT=5s").Output()
				return strings.Contains(string(out), "it was started 3 times in 30s")
			})
			if err == nil || !strings.Contains(string(out), parts[0]) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	if said := i.calls("fine"); field(said, "said") != "fine" {
		t.Errorf("others suffer: %q", said)
	}
}

// TestBuilds: each build is served by a daemon of its own; a call after the file was
// replaced by the new one, while the old daemon serves its connections to their end.
func TestBuilds(t *testing.T) {
	i := install(t)
	i.idle = 100 * time.Millisecond
	old := i.stays()
	first := old.says("one")
	again := i.calls("x")
	if err := i.Replace("/proc/self/exe", "another build"); err != nil {
		t.Fatal(err)
	}
	second := i.calls("x")
	if pid(t, first) != pid(t, again) || pid(t, first) == pid(t, second) {
		t.Errorf("the same build: %q and %q; another: %q", first, again, second)
	}
	if third := old.says("two"); pid(t, third) != pid(t, first) {
		t.Errorf("the old connection is served by %q", third)
	}
	old.ends()
	testutil.WaitFor(t, "the old daemon ends", func() bool { return syscall.Kill(pid(t, first), 0) != nil })
}

// TestKeys: what must not be shared is not, and what the first caller happened to have set
// reaches nobody.
func TestKeys(t *testing.T) {
	i := install(t)
	dir := t.TempDir()
	daemons := make(map[int]string)
	for _, env := range [][]string{
		nil, {"TOOL_KEY=a"}, {"TOOL_KEY=b"}, {"GOVERSION=go1.26"}, {"GOVERSION=go1.27"}, {"TOOL_DIR=" + dir},
	} {
		first, again := i.calls("x", append(env, "ACCIDENTAL=1")...), i.calls("x", append(env, "ACCIDENTAL=2")...)
		p := pid(t, first)
		if p != pid(t, again) {
			t.Errorf("%v: two daemons: %q, %q", env, first, again)
		}
		if other, shared := daemons[p]; shared {
			t.Errorf("%v shares a daemon with %s", env, other)
		}
		daemons[p] = fmt.Sprint(env)
		if field(first, "accidental") != `""` {
			t.Errorf("the environment of the first caller is there: %q", first)
		}
		if field(first, "ushers") != "0" {
			t.Errorf("children of the daemon would get what is the daemon's alone: %q", first)
		}
	}
	if said := i.calls("x", "TOOL_DIR="+dir); field(said, "dir") != dir {
		t.Errorf("works in %q", said)
	}
	if said := i.calls("x", "GOVERSION=go1.27"); field(said, "go") != "go1.27" || field(said, "dir") != "/" {
		t.Errorf("got %q", said)
	}
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

// TestPrivileged: a file that runs with another's rights becomes neither broker nor daemon.
func TestPrivileged(t *testing.T) {
	i := install(t)
	if err := os.Chmod(i.Bin, 0o700|fs.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	for _, env := range []string{"", "USHER_ROLE=broker", "USHER_ROLE=daemon"} {
		out, err := i.command("x", env).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "it has set-uid, set-gid or capabilities") {
			t.Errorf("%s: %v: %s", env, err, out)
		}
	}
	if n := len(i.processes()); n != 0 {
		t.Errorf("%d processes", n)
	}
}

// TestBrokerFindsAnother: a broker that was started although one serves, because the call
// that had started that one was ended too early to see it, says at once that one serves.
// Its own caller would else wait until the other one ends.
func TestBrokerFindsAnother(t *testing.T) {
	i := install(t)
	i.calls("x")
	ready, told, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	cmd := i.command("", "USHER_ROLE=broker", "USHER_STARTER=3", envCall+"=")
	cmd.ExtraFiles = []*os.File{told}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = told.Close()
	word, err := io.ReadAll(ready)
	if took := time.Since(began); string(word) != "ready\n" || err != nil || took > time.Minute {
		t.Errorf("said %q, %v after %v", word, err, took)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if n := len(i.processes()); n != 2 {
		t.Errorf("%d processes, want broker and daemon", n)
	}
}

// TestStdioSaysWhatFailed: an output that takes nothing is not taken for the daemon's end.
func TestStdioSaysWhatFailed(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	cmd := install(t).command("stdio")
	cmd.Stdin, cmd.Stdout = strings.NewReader("x\n"), full
	var complaint strings.Builder
	cmd.Stderr = &complaint
	if err := cmd.Run(); err == nil || !strings.Contains(complaint.String(), "standard output: ") {
		t.Errorf("%v: %s", err, &complaint)
	}
}

// TestOldLogsGo: each build and each key has a log of its own, so the oldest go; one whose
// daemon runs stays, however old it is.
func TestOldLogsGo(t *testing.T) {
	i := install(t)
	i.calls("x", "TOOL_KEY=quiet")
	dir := filepath.Join(i.Dir, "running-process", tool.Name)
	logs := func() []string {
		found, err := filepath.Glob(filepath.Join(dir, tool.Name+"-*.log*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	quiet := logs()
	old := time.Now().Add(-time.Hour)
	for n := range 100 {
		path := filepath.Join(dir, fmt.Sprintf("%s-%016x.log", tool.Name, n))
		for _, path := range []string{path, path + ".1"} {
			if err := os.WriteFile(path, []byte("old\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, path := range quiet {
		if err := os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
	}
	i.calls("x", "TOOL_KEY=other")
	left := logs()
	if len(left) > 2*64 || len(quiet) != 1 || !slices.Contains(left, quiet[0]) {
		t.Errorf("%d files are left; %q has to be one of them", len(left), quiet)
	}
}

// TestMainForgotten: where main does not call Main, the broker that a call starts would be a
// call as well, and start one itself, and so on. It fails at its Dial instead, and the
// first caller is told what is wrong.
func TestMainForgotten(t *testing.T) {
	i := install(t)
	out, err := i.command("x", envForgets+"=1").Output()
	if err == nil || !strings.Contains(string(out), "call Main first of all in main") {
		t.Errorf("%v: %s", err, out)
	}
	testutil.WaitFor(t, "nothing runs", func() bool { return len(i.processes()) == 0 })
}

// TestStateOfOthers: where others could put links, no log is written, and whoever calls is
// told what to do.
func TestStateOfOthers(t *testing.T) {
	i := install(t)
	state := filepath.Join(i.Dir, "running-process", tool.Name)
	if err := errors.Join(os.MkdirAll(state, 0o700), os.Chmod(state, 0o755)); err != nil {
		t.Fatal(err)
	}
	out, err := i.command("x").Output()
	if err == nil || !strings.Contains(string(out), "directory "+state+" has mode 0755 instead of 0700: look at what is inside, then run chmod 700 "+state) {
		t.Errorf("got %q, %v", out, err)
	}
	if left, err := os.ReadDir(state); err != nil || len(left) > 0 {
		t.Errorf("written: %v, %v", left, err)
	}
	if err := os.Chmod(state, 0o700); err != nil {
		t.Fatal(err)
	}
	i.calls("x")
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

// TestStdio: input and output are the daemon's, to the end of both.
func TestStdio(t *testing.T) {
	i := install(t)
	cmd := i.command("stdio")
	cmd.Stdin = strings.NewReader("one\ntwo\n")
	out, err := cmd.Output()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil || len(lines) != 2 || field(lines[0], "said") != "one" || field(lines[1], "said") != "two" {
		t.Errorf("%v: %q", err, out)
	}
}

// staying is a call that keeps its connection.
type staying struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func (i *installed) stays(env ...string) *staying {
	i.t.Helper()
	cmd := i.command("stays", env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		i.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		i.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		i.t.Fatal(err)
	}
	return &staying{i.t, cmd, in, bufio.NewReader(out)}
}

func (s *staying) says(line string) string {
	s.t.Helper()
	if _, err := fmt.Fprintln(s.in, line); err != nil {
		s.t.Fatal(err)
	}
	answer, err := s.out.ReadString('\n')
	if err != nil {
		s.t.Fatalf("%v: %q", err, answer)
	}
	return answer
}

func (s *staying) ends() {
	s.t.Helper()
	_ = s.in.Close()
	if err := s.cmd.Wait(); err != nil {
		s.t.Error(err)
	}
}

// TestNewerBuildIsTheBroker: a call of a newer build has the broker replaced by that build,
// while calls go on; one of an older build is served, and changes nothing.
func TestNewerBuildIsTheBroker(t *testing.T) {
	i := install(t)
	old := i.stays()
	first := old.says("one")
	older := filepath.Join(i.Dir, "older")
	if err := os.Link(i.Bin, older); err != nil {
		t.Fatal(err)
	}
	before := i.broker()
	if err := i.Replace("/proc/self/exe", "a newer build"); err != nil {
		t.Fatal(err)
	}
	newer, err := os.Stat(i.Bin)
	if err != nil {
		t.Fatal(err)
	}
	isNewer := func() bool {
		fi, err := os.Stat(fmt.Sprintf("/proc/%d/exe", i.broker()))
		return err == nil && os.SameFile(fi, newer)
	}
	second := i.calls("x")
	testutil.WaitFor(t, "the newer build is the broker", func() bool { i.calls("x"); return isNewer() })
	testutil.WaitFor(t, "the older one has ended", func() bool { return errors.Is(syscall.Kill(before, 0), syscall.ESRCH) })
	if p := pid(t, i.calls("x")); p != pid(t, second) {
		t.Errorf("served by %d, before the upgrade by %d", p, pid(t, second))
	}
	cmd := i.command("x")
	cmd.Path, cmd.Args[0] = older, older
	out, err := cmd.Output()
	if same := err == nil && pid(t, string(out)) == pid(t, first); err != nil || !same && !testutil.Portable {
		t.Errorf("the older build: %v, %q, before by %q", err, out, first)
	}
	if third := old.says("two"); pid(t, third) != pid(t, first) {
		t.Errorf("the old connection is served by %q", third)
	}
	old.ends()
	if !isNewer() {
		t.Error("the older build has become the broker again")
	}
}

// broker is the pid of who listens on the tool's socket.
func (i *installed) broker() int {
	i.t.Helper()
	found, _ := filepath.Glob(filepath.Join(i.Dir, "running-process", "broker", "*-svc-testtool.sock"))
	if len(found) != 1 {
		i.t.Fatalf("sockets %q", found)
	}
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: found[0], Net: "unix"})
	if err != nil {
		i.t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		i.t.Fatal(err)
	}
	var cred *syscall.Ucred
	_ = raw.Control(func(fd uintptr) {
		cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err != nil {
		i.t.Fatal(err)
	}
	return int(cred.Pid)
}

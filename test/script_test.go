//go:build unix

package test

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/seed-7265657e/usher/internal/cli"
	"github.com/seed-7265657e/usher/internal/testutil"
)

func TestMain(m *testing.M) {
	// Debian keeps the servers of PostgreSQL beside PATH.
	if dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin"); err == nil && len(dirs) > 0 {
		_ = os.Setenv("PATH", os.Getenv("PATH")+":"+dirs[len(dirs)-1])
	}
	testscript.Main(m, map[string]func(){
		"usher":   func() { os.Exit(cli.Main()) },
		"backend": backendMain,
		"peer":    peerMain,
		"talk":    talkMain,
	})
}

func TestScripts(t *testing.T) { runScripts(t, "scripts") }

// TestPrograms: real programs that know nothing of usher, behind it and before it. What is
// not installed is skipped, and says so.
func TestPrograms(t *testing.T) { runScripts(t, "programs") }

func runScripts(t *testing.T, dir string) {
	if signal.Ignored(syscall.SIGHUP) { // under nohup: the scripts' processes would ignore it, too
		caught := make(chan os.Signal, 1)
		signal.Notify(caught, syscall.SIGHUP)
		t.Cleanup(func() { signal.Reset(syscall.SIGHUP) })
	}
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		Setup:               setup,
		Condition:           condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"until":  until,
			"signal": signalCommand,
			"chmod":  chmod,
		},
	})
}

// condition is what a script may ask for beside testscript's own:
//
//	[root]    it runs as root
//	[userns]  a user namespace can be had
func condition(name string) (bool, error) {
	switch name {
	case "root":
		return os.Geteuid() == 0, nil
	case "usher_portable":
		return testutil.Portable, nil
	case "userns":
		return exec.Command("unshare", "--user", "true").Run() == nil, nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// setup gives each script a private runtime directory $RUN, short enough for
// sockets, with the broker's socket $SOCKET in it.
func setup(env *testscript.Env) error {
	run, err := os.MkdirTemp("", "u")
	if err != nil {
		return err
	}
	env.Defer(func() { _ = os.RemoveAll(run) })
	if err := os.Chmod(run, 0o700); err != nil {
		return err
	}
	socket := filepath.Join(run, "broker.sock")
	env.Setenv("GORACE", "atexit_sleep_ms=0") // else every process of a -race run ends a second late
	env.Setenv("RUN", run)
	env.Setenv("SOCKET", socket)
	env.Setenv("XDG_RUNTIME_DIR", run)
	env.Setenv("XDG_STATE_HOME", filepath.Join(run, "state"))
	env.Setenv("RUNNING_PROCESS_BROKER_V1_SOCKET", socket)
	env.Setenv("RUNNING_PROCESS_SERVICE_DEF_DIR", filepath.Join(run, "services"))
	return nil
}

// How long a fact may take to come about on a busy machine, and how often it is
// looked for: another process announces none of them.
const (
	untilBound = 2 * time.Minute
	untilPause = 20 * time.Millisecond
)

// until runs a command again and again until its output matches.
//
//	until REGEXP PROGRAM [ARGS]    it succeeds and standard output matches
//	! until REGEXP PROGRAM [ARGS]  it fails and standard error matches
func until(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: until REGEXP PROGRAM [ARGS]")
	}
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	for end := time.Now().Add(untilBound); time.Now().Before(end); time.Sleep(untilPause) {
		err := ts.Exec(args[1], args[2:]...)
		output := ts.ReadFile("stdout")
		if neg {
			output = ts.ReadFile("stderr")
		}
		if (err != nil) == neg && pattern.MatchString(output) {
			return
		}
	}
	ts.Fatalf("not so after %v", untilBound)
}

var signals = map[string]os.Signal{
	"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL,
	"STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT,
}

// signalCommand sends a signal to the newest background command that was started
// with these words.
//
//	signal TERM PROGRAM [ARGS]
func signalCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || neg {
		ts.Fatalf("usage: signal NAME PROGRAM [ARGS]")
	}
	sig, ok := signals[args[0]]
	if !ok {
		ts.Fatalf("unknown signal %s", args[0])
	}
	words := strings.Join(args[1:], " ")
	commands := ts.BackgroundCmds()
	for i := len(commands) - 1; i >= 0; i-- {
		c := commands[i]
		line := strings.Join(append([]string{filepath.Base(c.Args[0])}, c.Args[1:]...), " ")
		if strings.HasPrefix(line, words) {
			ts.Check(c.Process.Signal(sig))
			return
		}
	}
	ts.Fatalf("no background command begins with %q", words)
}

// chmod sets the mode of files: chmod 0755 FILE...
func chmod(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || neg {
		ts.Fatalf("usage: chmod MODE FILE...")
	}
	ts.Check(ts.Exec("chmod", args...))
}

//go:build linux

package languages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/world"
)

const examples = "../../examples"

// built is where this run's C programs lie.
var built string

func TestMain(m *testing.M) {
	var err error
	if built, err = os.MkdirTemp("", "usher-languages"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(built)
	os.Exit(code)
}

// backendProgram is a program that serves lines.
type backendProgram struct {
	name string
	// page says that its claims are in a page, where an acknowledgement is no message.
	page bool
	// executable is the program as the kernel knows it.
	executable func(*testing.T) string
	// command is how it is started, but for what every backend is told.
	command func(t *testing.T, executable string, f fault) world.Command
}

// fault is what a backend does to itself, and at which step; the zero value is none.
type fault struct {
	step   string
	signal signal
}

type signal struct {
	name   string
	number int
}

var (
	kill = signal{"SIGKILL", 9}
	stop = signal{"SIGSTOP", 19}
)

var backendPrograms = []backendProgram{
	{"Python, page", true, python, pythonBackend()},
	{"Python, eventfd", false, python, pythonBackend("--eventfd")},
	{"C", true, compiled("backend", patience), func(_ *testing.T, executable string, f fault) world.Command {
		return world.Command{Args: []string{executable}, Env: []string{fmt.Sprintf("FAULT=%s:%d", f.step, f.signal.number)}}
	}},
}

func pythonBackend(flags ...string) func(*testing.T, string, fault) world.Command {
	return func(t *testing.T, executable string, f fault) world.Command {
		return world.Command{Args: append(withFault(t, executable, "backend.py", patience, f), flags...)}
	}
}

// withFault is the start of the command line of a Python program.
func withFault(t *testing.T, executable, name string, timeout time.Duration, f fault) []string {
	return []string{executable, absolute(t, "testdata/fault.py"), absolute(t, examples+"/python/"+name), fmt.Sprint(timeout.Seconds()), f.step + ":" + f.signal.name}
}

// ask makes one request, and says what its client knows in the end. early: it goes along
// with the question for the service.
type ask func(t *testing.T, w *fixture, id string, early bool) result

type clientProgram struct {
	name       string
	ask        ask
	reconnects bool // it can't be handed over
}

var (
	goClient     = clientProgram{"Go", askGo, false}
	pythonClient = clientProgram{"Python", func(t *testing.T, w *fixture, id string, early bool) result {
		return run(t, w, id, withFault(t, python(t), "client.py", w.patience, fault{}), early)
	}, false}
	cClient = clientProgram{"C", func(t *testing.T, w *fixture, id string, early bool) result {
		return run(t, w, id, []string{compiled("client", w.patience)(t)}, early)
	}, false}
	nodeClient = clientProgram{"Node", func(t *testing.T, w *fixture, id string, _ bool) result {
		return run(t, w, id, []string{
			"env", fmt.Sprintf("PATIENCE=%d", w.patience.Milliseconds()),
			found(t, "node"), "--require", absolute(t, "testdata/patience.js"), absolute(t, examples+"/node/client.js"),
		}, true)
	}, true}
)

// verdict is what a client may conclude about its request.
type verdict string

const (
	answered verdict = "answered"
	notRun   verdict = "not run" // may be sent again
	unknown  verdict = "unknown" // must not
)

// verdicts are the exit codes of the programs.
var verdicts = map[int]verdict{0: answered, 2: notRun, 3: unknown}

// result is one request's fate as its client sees it.
type result struct {
	id      string
	verdict verdict
	detail  string
}

// run has a program make the request.
func run(t *testing.T, w *fixture, id string, command []string, early bool) result {
	if !early {
		command = append(command, "--late")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], append(command[1:], service, version, id)...)
	var out, stderr bytes.Buffer
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = w.Env, w.Dir, &out, &stderr
	err := cmd.Run()
	res := result{id: id, verdict: verdicts[cmd.ProcessState.ExitCode()], detail: stderr.String()}
	if res.verdict == answered && out.String() != id+" done\n" {
		t.Errorf("answer %q (%v)", out.String(), err)
	}
	return res
}

// askGo is run with package client.
func askGo(_ *testing.T, w *fixture, id string, early bool) (res result) {
	res = result{id: id, verdict: notRun}
	conn, err := dialGo(w, id, early)
	if err == nil {
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(w.patience))
		if !early {
			_, err = io.WriteString(conn, id+"\n")
		}
	}
	if err == nil {
		res.verdict = unknown
		line := make([]byte, len(id)+len(" done\n"))
		if _, err = io.ReadFull(conn, line); err == nil && string(line) == id+" done\n" {
			res.verdict = answered
		}
	}
	if errors.Is(err, client.ErrOutcomeUnknown) {
		res.verdict = unknown
	}
	res.detail = fmt.Sprint(err)
	return res
}

func dialGo(w *fixture, id string, early bool) (*client.Conn, error) {
	opts := client.Options{Service: service, Version: version, Broker: w.Socket(), Timeout: w.patience}
	if early {
		return client.DialWith(context.Background(), opts, []byte(id+"\n"))
	}
	return client.Dial(context.Background(), opts)
}

// found is where a program lies; without it the test is skipped.
func found(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s: examples in that language are not tested here", name)
	}
	return path
}

// python is the interpreter's executable: what python3 names may be a script that starts it.
func python(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), found(t, "python3"), "-c", `import os; print(os.path.realpath("/proc/self/exe"))`).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

var compiling sync.Mutex

// compiled builds a program of examples/c with a timeout, once.
func compiled(name string, timeout time.Duration) func(*testing.T) string {
	return func(t *testing.T) string {
		t.Helper()
		cc := found(t, "cc")
		compiling.Lock()
		defer compiling.Unlock()
		program := filepath.Join(built, name+timeout.String())
		if _, err := os.Stat(program); err == nil {
			return program
		}
		out, err := exec.CommandContext(t.Context(), cc, "-std=c11", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE",
			fmt.Sprintf("-DWAIT=%d", timeout.Milliseconds()), "-include", "testdata/fault.h",
			"-pthread", "-o", program, examples+"/c/"+name+".c").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return program
	}
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

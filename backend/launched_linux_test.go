package backend_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/identity"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// serveLaunched is a backend as an author writes it: what it serves is its broker's to
// say. It tells each client which descriptors and variables its children would have.
func serveLaunched() error {
	l, err := backend.Listen(context.Background(), backend.Options{Broker: "/nonexistent/b.sock"})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	go func() { // whoever started it has gone
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = l.Close()
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			return nil
		}
		go func() {
			defer c.Close()
			if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
				return
			}
			out, err := exec.Command("/bin/sh", "-c", "ls -l /proc/self/fd; env").CombinedOutput()
			_, _ = fmt.Fprintf(c, "%s %v\n", out, err)
		}()
	}
}

// v1Launcher is a v1 broker that starts a backend (spec 03 §11).
type v1Launcher struct {
	t      *testing.T
	pipe   string
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout io.Reader
	stderr *os.File
}

func newV1Launcher(t *testing.T) *v1Launcher {
	dir := testutil.SocketDir(t)
	stderr, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stderr.Close() })
	return &v1Launcher{t: t, pipe: filepath.Join(dir, "rpb-v1-be.sock"), stderr: stderr}
}

// said is what the backend has written to its standard error.
func (b *v1Launcher) said() string {
	b.t.Helper()
	text, err := os.ReadFile(b.stderr.Name())
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

// bound is the socket that the broker has bound before, as a file to pass.
func (b *v1Launcher) bound() *os.File {
	b.t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: b.pipe, Net: "unix"})
	if err != nil {
		b.t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	f, err := l.File()
	if err != nil {
		b.t.Fatal(err)
	}
	return f
}

// launch starts the backend, and closes what it passes.
func (b *v1Launcher) launch(passed *os.File, env ...string) {
	b.t.Helper()
	var files []*os.File
	if passed != nil {
		defer passed.Close()
		files = append(files, passed)
	}
	b.cmd = testutil.Helper(b.t, "launched", files...)
	b.cmd.Env = append(b.cmd.Env,
		"RUNNING_PROCESS_IS_DAEMON=1",
		"RUNNING_PROCESS_BROKER_V1_SERVICE_NAME="+service,
		"RUNNING_PROCESS_BROKER_V1_SERVICE_VERSION="+version,
		"RUNNING_PROCESS_BROKER_V1_BACKEND_PIPE="+b.pipe,
		"RUNNING_PROCESS_BROKER_V1_BACKEND_NAMESPACE=explicit:ci",
		"RUNNING_PROCESS_BROKER_V1_INSTANCE=explicit:ci",
	)
	b.cmd.Env = append(b.cmd.Env, env...)
	b.cmd.Stderr = b.stderr
	var err error
	if b.stdin, err = b.cmd.StdinPipe(); err != nil {
		b.t.Fatal(err)
	}
	if b.stdout, err = b.cmd.StdoutPipe(); err != nil {
		b.t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
}

// probe asks who serves the pipe, and judges the answer as a v1 broker does.
func (b *v1Launcher) probe() {
	b.t.Helper()
	said, err := identity.Await(b.t.Context(), dialPipe(b.t, b.pipe))
	if err != nil {
		b.t.Fatal(err, b.said())
	}
	exe, err := filepath.EvalSymlinks(os.Args[0])
	if err != nil {
		b.t.Fatal(err)
	}
	if int(said.Pid) != b.cmd.Process.Pid || said.ExePath != exe || said.IpcEndpoint.NamespaceId != "explicit:ci" || said.IpcEndpoint.Path != b.pipe {
		b.t.Errorf("it says %+v, %+v", said, said.IpcEndpoint)
	}
}

// served asks the backend as a client does, which has been told the pipe.
func (b *v1Launcher) served() string {
	b.t.Helper()
	c := dialPipe(b.t, b.pipe)
	if _, err := c.Write([]byte("x\n")); err != nil {
		b.t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil || len(answer) == 0 {
		b.t.Fatalf("%q, %v", answer, err)
	}
	return string(answer)
}

// end has the backend end by itself.
func (b *v1Launcher) end() {
	b.t.Helper()
	_ = b.stdin.Close()
	if err := b.cmd.Wait(); err != nil {
		b.t.Errorf("%v: %s", err, b.said())
	}
	if _, err := os.Lstat(b.pipe); err == nil {
		b.t.Error("its pipe is still there")
	}
}

// TestLaunchedByV1: a v1 broker that has bound the pipe starts a Go backend, asks it once
// who it is, and has the answer within the 500 ms that it waits from then on. Children of
// the backend get neither the socket nor the variables.
func TestLaunchedByV1(t *testing.T) {
	testutil.Leaks(t)
	best := patience
	for tries := 0; tries < 3 || tries < 20 && best > identity.ProbeTimeout; tries++ { // this machine may be busy with something else
		b := newV1Launcher(t)
		began := time.Now()
		b.launch(b.bound(), endpoint.ListenerVariable+"=3")
		b.probe()
		best = min(best, time.Since(began))
		answer := b.served()
		for _, name := range []string{"BACKEND_PIPE", "LISTENER_FD", "socket:"} {
			if strings.Contains(answer, name) {
				t.Errorf("a child has %s: %s", name, answer)
			}
		}
		b.end()
	}
	t.Logf("from exec until the answer: %v", best)
	if best > identity.ProbeTimeout && !testutil.Race { // which has hashing take ten times as long
		t.Errorf("a v1 broker would have ended it after %v", identity.ProbeTimeout)
	}
}

// TestLaunchedByV1Unbound: without a socket the backend binds the pipe that it is told.
func TestLaunchedByV1Unbound(t *testing.T) {
	testutil.Leaks(t)
	b := newV1Launcher(t)
	b.launch(nil)
	if line, err := bufio.NewReader(b.stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q, %v: %s", line, err, b.said())
	}
	b.probe()
	b.served()
	b.end()
}

// TestLaunchedByV1Fails: a descriptor that is not that socket is an error, and nothing is
// bound in its place.
func TestLaunchedByV1Fails(t *testing.T) {
	testutil.Leaks(t)
	for name, c := range map[string]struct {
		passed func(b *v1Launcher) *os.File
		number string
		want   string
	}{
		"no number":     {func(*v1Launcher) *os.File { return nil }, "", "descriptor"},
		"nothing there": {func(*v1Launcher) *os.File { return nil }, "77", "bad file descriptor"},
		"a file": {func(b *v1Launcher) *os.File {
			f, err := os.Open("/dev/null")
			if err != nil {
				b.t.Fatal(err)
			}
			return f
		}, "3", "socket"},
		"another path": {func(b *v1Launcher) *os.File {
			other := *b
			other.pipe += "2"
			return other.bound()
		}, "3", "is bound to"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newV1Launcher(t)
			b.launch(c.passed(b), endpoint.ListenerVariable+"="+c.number)
			err := b.cmd.Wait()
			if said := b.said(); err == nil || !strings.Contains(said, endpoint.ListenerVariable) || !strings.Contains(said, c.want) {
				t.Errorf("%v: %s", err, said)
			}
			if _, err := os.Lstat(b.pipe); err == nil {
				t.Error("it has bound the pipe")
			}
		})
	}
}

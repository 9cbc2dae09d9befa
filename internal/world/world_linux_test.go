package world_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/world"
)

// TestMain is also the program in its roles.
func TestMain(m *testing.M) {
	roles := map[string]func() error{"echo": echo, "freeze": freeze, "parent": parent, "fail": fail}
	if len(os.Args) == 3 && os.Args[1] == "role" {
		if err := roles[os.Args[2]](); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func echo() error {
	return world.Converse(os.Stdin, os.Stdout, func(q string) (string, error) { return q + " " + os.Getenv("EXTRA"), nil })
}

// freeze says that it runs before it stops itself, and that it goes on behind that.
func freeze() error {
	return world.Converse(os.Stdin, os.Stdout, func(string) (string, error) { return "thawed", world.Raise(syscall.SIGSTOP) })
}

// parent has a frozen process in a world of its own: one that does not see its
// standard input end.
func parent() error {
	w, err := world.New(context.Background(), "child", os.Args[0])
	if err != nil {
		return err
	}
	p, err := w.Start(world.Command{Name: "child", Args: []string{os.Args[0], "role", "freeze"}})
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := errors.Join(p.Ready(ctx), p.Freeze(ctx)); err != nil {
		return err
	}
	return world.Converse(os.Stdin, os.Stdout, func(string) ([]any, error) { return []any{p.PID(), w.Dir}, nil })
}

func fail() error {
	_, _ = io.WriteString(os.Stdout, "{")
	return errors.New("no reason at all")
}

func newWorld(t *testing.T) *world.World {
	t.Helper()
	w, err := world.New(t.Context(), "some", os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func start(t *testing.T, w *world.World, role string) *world.Process {
	t.Helper()
	p, err := w.Start(world.Command{Name: role, Args: []string{os.Args[0], "role", role}, Env: []string{"EXTRA=more"}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestConversation(t *testing.T) {
	testutil.Leaks(t)
	p := start(t, newWorld(t), "echo")
	if err := p.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 1<<18) // more than a pipe holds
	for _, question := range []string{"first", long, "last"} {
		var answer string
		if err := p.Ask(t.Context(), question, &answer); err != nil || answer != question+" more" {
			t.Fatalf("%.20q, %v", answer, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Line(ctx, new(string)); !errors.Is(err, context.Canceled) {
		t.Errorf("nothing to read: %v", err)
	}
	if err := p.Quit(); err != nil {
		t.Error(err)
	}
}

// TestEndedEarly: who waits for a process that failed learns why it did.
func TestEndedEarly(t *testing.T) {
	testutil.Leaks(t)
	w := newWorld(t)
	p := start(t, w, "fail")
	const why = "the last it said: no reason at all"
	for what, err := range map[string]error{
		"ready": p.Ready(t.Context()), "quit": p.Quit(), "serving": w.Serving(t.Context(), p),
	} {
		if err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), "exit status 1") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestFrozen(t *testing.T) {
	testutil.Leaks(t)
	p := start(t, newWorld(t), "freeze")
	if err := errors.Join(p.Ready(t.Context()), p.Tell("stop"), p.AwaitFrozen(t.Context()), p.Thaw()); err != nil {
		t.Fatal(err)
	}
	var answer string
	if err := p.Line(t.Context(), &answer); err != nil || answer != "thawed" {
		t.Errorf("%q, %v", answer, err)
	}
	if err := p.Freeze(t.Context()); err != nil {
		t.Error(err)
	}
	p.Kill()
}

// TestClose: neither a frozen process nor a foreign one with a child outlives its
// World, and the directory goes too.
func TestClose(t *testing.T) {
	testutil.Leaks(t)
	w := newWorld(t)
	frozen := start(t, w, "freeze")
	if err := errors.Join(frozen.Ready(t.Context()), frozen.Tell("stop"), frozen.AwaitFrozen(t.Context())); err != nil {
		t.Fatal(err)
	}
	foreign, err := w.Start(world.Command{Name: "sh", Args: []string{"/bin/sh", "-c", "sleep 60 & echo $!; wait"}, Foreign: true})
	if err != nil {
		t.Fatal(err)
	}
	child := childOf(t, foreign)
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	for _, pid := range []int{frozen.PID(), foreign.PID(), child} {
		gone(t, pid)
	}
	if _, err := os.Stat(w.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
	if _, err := w.Start(world.Command{Name: "late", Args: []string{"/bin/true"}}); err == nil {
		t.Error("a closed World starts a process")
	}
}

// TestForeignChild: what a foreign process leaves behind ends with it.
func TestForeignChild(t *testing.T) {
	testutil.Leaks(t)
	foreign, err := newWorld(t).Start(world.Command{Name: "sh", Args: []string{"/bin/sh", "-c", "sleep 60 & echo $!"}, Foreign: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := foreign.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	gone(t, childOf(t, foreign))
	if err := foreign.Signal(os.Interrupt); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a group that may be somebody else's was signalled: %v", err)
	}
}

// TestParentKilled: a process does not outlive the one that started it.
func TestParentKilled(t *testing.T) {
	testutil.Leaks(t)
	p := start(t, newWorld(t), "parent")
	var child int
	var dir string
	if err := errors.Join(p.Ready(t.Context()), p.Ask(t.Context(), "who", &[]any{&child, &dir})); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // nobody was left to do it
	p.Kill()
	gone(t, child)
}

// gone waits until the process has ended. An orphan may wait to be reaped then.
func gone(t *testing.T, pid int) {
	t.Helper()
	testutil.WaitFor(t, fmt.Sprintf("process %d is gone", pid), func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
}

// childOf is the number that a foreign process has written down.
func childOf(t *testing.T, p *world.Process) (pid int) {
	t.Helper()
	testutil.WaitFor(t, "the child has started", func() bool {
		_, err := fmt.Sscanf(p.LastWords(), "; the last it said: %d", &pid)
		return err == nil
	})
	return pid
}

// TestEnvironment: the user's own settings reach nobody.
func TestEnvironment(t *testing.T) {
	t.Setenv("RUNNING_PROCESS_DISABLE", "1")
	t.Setenv("XDG_DATA_HOME", "/elsewhere")
	t.Setenv("TMPDIR", t.TempDir()+strings.Repeat("/long", 20))
	if err := os.MkdirAll(os.TempDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	if len(w.Dir) > 60 {
		t.Errorf("%s leaves no room for sockets", w.Dir)
	}
	for _, v := range []string{"RUNNING_PROCESS_DISABLE=1", "XDG_DATA_HOME=/elsewhere"} {
		if slices.Contains(w.Env, v) {
			t.Errorf("%s is in the environment", v)
		}
	}
	env := exec.Cmd{Env: w.Env}
	if !slices.Contains(env.Environ(), "XDG_RUNTIME_DIR="+w.Dir) {
		t.Error("processes may find somebody else's broker")
	}
}

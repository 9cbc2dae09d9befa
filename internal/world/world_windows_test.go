package world

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// roleVariable has what a process of this executable is.
const roleVariable = "USHER_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "echo":
		_ = Converse(os.Stdin, os.Stdout, func(s string) (string, error) { return s, nil })
	case "detaches": // what it starts lives on, and says who it is
		_ = os.Setenv(roleVariable, "stays")
		cmd := exec.Command(os.Args[0])
		if cmd.Start() != nil {
			os.Exit(1)
		}
		_ = Converse(os.Stdin, os.Stdout, func(string) (int, error) { return cmd.Process.Pid, nil })
	case "stays": // until it is ended
		time.Sleep(5 * time.Minute)
	default:
		os.Exit(m.Run())
	}
}

func newWorld(t *testing.T) *World {
	t.Helper()
	w, err := New(t.Context(), "echo", os.Args[0])
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

func begun(t *testing.T, w *World, program, role string) *Process {
	t.Helper()
	p, err := w.Start(Command{Name: role, Args: []string{program}, Env: []string{roleVariable + "=" + role}})
	if err == nil {
		err = p.Ready(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func asks[A any](t *testing.T, p *Process) (got A) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), stepTimeout)
	defer cancel()
	if err := p.Ask(ctx, "question", &got); err != nil {
		t.Fatal(err)
	}
	return got
}

// suspended reports of each thread of a process whether it stands still.
func suspended(t *testing.T, pid int) (all []bool) {
	t.Helper()
	list, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPTHREAD, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = windows.CloseHandle(list) }()
	suspend := kernel32.NewProc("SuspendThread")
	e := windows.ThreadEntry32{Size: uint32(unsafe.Sizeof(windows.ThreadEntry32{}))}
	for err = windows.Thread32First(list, &e); err == nil; err = windows.Thread32Next(list, &e) {
		if e.OwnerProcessID != uint32(pid) {
			continue
		}
		thread, err := windows.OpenThread(windows.THREAD_SUSPEND_RESUME, false, e.ThreadID)
		if err != nil {
			continue // it has ended
		}
		before, _, _ := suspend.Call(uintptr(thread))
		_, _ = windows.ResumeThread(thread)
		_ = windows.CloseHandle(thread)
		all = append(all, before > 0)
	}
	return all
}

// TestFreeze: every thread stands still, and goes on.
func TestFreeze(t *testing.T) {
	w := newWorld(t)
	p := begun(t, w, os.Args[0], "echo")
	if err := p.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	if threads := suspended(t, p.PID()); len(threads) == 0 || slices.Contains(threads, false) {
		t.Errorf("stands still: %v", threads)
	}
	if err := p.Thaw(); err != nil {
		t.Fatal(err)
	}
	if got := asks[string](t, p); got != "question" {
		t.Errorf("thawed, and answers %q", got)
	}
	if err := p.Freeze(t.Context()); err != nil { // and ends so
		t.Fatal(err)
	}
}

// TestDetached: what a process has started is ended when it is asked for, and with the World
// at the latest; nobody else is.
func TestDetached(t *testing.T) {
	w, err := New(t.Context(), "echo", os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	first, second := asks[int](t, begun(t, w, os.Args[0], "detaches")), asks[int](t, begun(t, w, os.Args[0], "detaches"))
	if err := w.EndDetached(first, os.Getpid()); err != nil {
		t.Fatal(err)
	}
	if !Ended(first) || Ended(second) {
		t.Errorf("ended: %v and %v", Ended(first), Ended(second))
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := Until(context.Background(), "the second has ended", func() (bool, error) { return Ended(second), nil }); err != nil {
		t.Error(err)
	}
}

// TestPlaceOverOneThatRuns: as installers do.
func TestPlaceOverOneThatRuns(t *testing.T) {
	w := newWorld(t)
	path := w.Executable("echo")
	for _, build := range []string{"first", "second"} {
		if err := PlaceExecutable(path, os.Args[0], build); err != nil {
			t.Fatal(err)
		}
		if got := asks[string](t, begun(t, w, path, "echo")); got != "question" {
			t.Errorf("%s answers %q", build, got)
		}
		if content, err := os.ReadFile(path); err != nil || string(content[len(content)-len(build):]) != build {
			t.Errorf("it is not the %s build: %v", build, err)
		}
	}
}

// TestHolds: a pipe, or an event, that was opened shows; an event is not told from those of
// the runtime's threads before there are more than these can have.
func TestHolds(t *testing.T) {
	held := func() Held {
		h, err := Holds(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	base := held()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if n := held().Beyond(base); n != 2 {
		t.Errorf("a pipe counts as %d", n)
	}
	_ = errors.Join(r.Close(), w.Close())
	const events = 1000
	for range events {
		e, err := windows.CreateEvent(nil, 0, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = windows.CloseHandle(e) }()
	}
	if n := held().Beyond(base); n < events/2 || n > events+base.spare {
		t.Errorf("%d events count as %d", events, n)
	}
}

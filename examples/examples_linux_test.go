// Package examples_test runs the examples as their users do: built, started,
// talking through a broker.
package examples_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/world"
)

// newWorld runs a broker until the test's end that hands connections for name to the
// given executable.
func newWorld(t *testing.T, name, executable string) *world.World {
	t.Helper()
	w, err := world.New(context.Background(), name, executable)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	b, err := broker.Listen(broker.Options{
		Socket: w.Socket(), DefinitionDir: w.Definitions(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	testutil.Background(t, b.Serve)
	return w
}

// start runs a backend until the test's end, and waits until the broker knows it.
func start(t *testing.T, w *world.World, program string, args ...string) *world.Process {
	t.Helper()
	p, err := w.Start(world.Command{Name: filepath.Base(program), Args: append([]string{program}, args...)})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Registered(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return p
}

// build builds examples into one directory and returns it.
func build(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	args := []string{"build", "-o", dir + string(filepath.Separator)}
	for _, name := range names {
		args = append(args, "./"+name)
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// TestHello runs the two smallest programs.
func TestHello(t *testing.T) {
	bin := build(t, "hello-backend", "hello-client")
	program := filepath.Join(bin, "hello-backend")
	w := newWorld(t, "hello", program)
	backend := start(t, w, program)
	var out, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "hello-client"))
	cmd.Env, cmd.Stdout, cmd.Stderr = w.Env, &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	if want := fmt.Sprintf("hello from process %d\n", backend.PID()); out.String() != want {
		t.Errorf("%q, want %q", &out, want)
	}
}

// TestNotes runs the program with its flags, and ends it politely.
func TestNotes(t *testing.T) {
	program := filepath.Join(build(t, "notes"), "notes")
	w := newWorld(t, "notes", program)
	pipe := w.Path("notes.sock")
	p := start(t, w, program, "--version", "1.2.3", "--pipe", pipe, "--socket", w.Socket())
	conn, err := net.Dial("unix", pipe)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if err := p.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(pipe); !os.IsNotExist(err) {
		t.Errorf("the pipe is left: %v", err)
	}
}

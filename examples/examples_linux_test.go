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
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/brokerpb"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// place is a broker with an environment of its own.
type place struct {
	dir, socket string
}

// newPlace runs a broker until the test's end that hands connections for name to
// the given executable.
func newPlace(t *testing.T, name, executable string) place {
	t.Helper()
	dir := testutil.SocketDir(t)
	definitions := filepath.Join(dir, "services")
	_, err := service.Save(definitions, &brokerpb.ServiceDefinition{
		ServiceName: name, BinaryPath: executable, Isolation: brokerpb.BrokerIsolation_SHARED_BROKER,
	}, service.TOML)
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.Listen(broker.Options{
		Socket: filepath.Join(dir, "broker.sock"), DefinitionDir: definitions, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return place{dir: dir, socket: b.Socket()}
}

// environ leads a program to the place and nowhere else.
func (p place) environ() []string {
	return append(os.Environ(), "XDG_RUNTIME_DIR="+p.dir, "RUNNING_PROCESS_BROKER_V1_SOCKET="+p.socket)
}

// start runs a backend until the test's end, and waits until clients reach it.
func (p place) start(t *testing.T, program, name, version string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = p.environ()
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	testutil.WaitFor(t, name+" is registered", func() bool {
		conn, err := client.Dial(t.Context(), client.Options{Service: name, Version: version, Broker: p.socket})
		return err == nil && conn.Close() == nil
	})
	return cmd
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
	p := newPlace(t, "hello", program)
	backend := p.start(t, program, "hello", "1.0.0")
	var out, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "hello-client"))
	cmd.Env, cmd.Stdout, cmd.Stderr = p.environ(), &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	if want := fmt.Sprintf("hello from process %d\n", backend.Process.Pid); out.String() != want {
		t.Errorf("%q, want %q", &out, want)
	}
}

// TestNotes runs the program with its flags, and ends it politely.
func TestNotes(t *testing.T) {
	program := filepath.Join(build(t, "notes"), "notes")
	p := newPlace(t, "notes", program)
	pipe := filepath.Join(p.dir, "notes.sock")
	cmd := p.start(t, program, "notes", "1.2.3", "--version", "1.2.3", "--pipe", pipe, "--socket", p.socket)
	conn, err := net.Dial("unix", pipe)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(pipe); !os.IsNotExist(err) {
		t.Errorf("the pipe is left: %v", err)
	}
}

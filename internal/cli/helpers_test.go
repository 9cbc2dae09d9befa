//go:build unix

package cli

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// place is an environment of its own: no variable leads out of it.
type place struct {
	dir, socket, definitions string
}

func newPlace(t *testing.T) place {
	t.Helper()
	dir := testutil.SocketDir(t)
	p := place{dir: dir, socket: filepath.Join(dir, "b.sock"), definitions: filepath.Join(dir, "defs")}
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("XDG_STATE_HOME", filepath.Join(dir, "state"))
	t.Setenv("RUNNING_PROCESS_BROKER_V1_SOCKET", p.socket)
	t.Setenv("RUNNING_PROCESS_SERVICE_DEF_DIR", p.definitions)
	return p
}

// define defines a service that this test binary may serve.
func (p place) define(t *testing.T, name string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	_, err = service.Save(p.definitions, &wire.ServiceDefinition{
		ServiceName: name, BinaryPath: self, Isolation: wire.BrokerIsolation_SHARED_BROKER,
	}, service.TOML)
	if err != nil {
		t.Fatal(err)
	}
}

// startBroker serves in this process until the test's end.
func (p place) startBroker(t *testing.T) {
	t.Helper()
	b, err := broker.Listen(broker.Options{Socket: p.socket, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	testutil.Background(t, b.Serve)
}

// startBackend serves connections with handle until the test's end.
func (p place) startBackend(t *testing.T, name, version string, handle func(net.Conn)) {
	t.Helper()
	ln, err := backend.Listen(context.Background(), backend.Options{Service: name, Version: version, Broker: p.socket})
	if err != nil {
		t.Fatal(err)
	}
	testutil.AcceptEach(t, ln, handle)
	if err := ln.WaitRegistered(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// echo answers with what it reads, in capitals, once that has ended.
func echo(c net.Conn) {
	text, _ := io.ReadAll(c)
	_, _ = c.Write(bytes.ToUpper(text))
}

// startFake answers one frame on each connection to the socket; a nil answer
// ends the connection.
func (p place) startFake(t *testing.T, answer func(*wire.Frame) *wire.Frame) {
	t.Helper()
	ln, err := net.Listen("unix", p.socket)
	if err != nil {
		t.Fatal(err)
	}
	testutil.AcceptEach(t, ln, func(c net.Conn) {
		if f, _, err := frame.Read(c, frame.MaxBody); err == nil {
			if reply := answer(f); reply != nil {
				_, _ = frame.Write(c, reply)
			}
		}
	})
}

// reply is a fake that answers every admin request with r.
func reply(r *wire.AdminReply) func(*wire.Frame) *wire.Frame {
	return func(f *wire.Frame) *wire.Frame { return frame.Response(f, wire.Marshal(r)) }
}

// result is what one run of usher did.
type result struct {
	code           int
	stdout, stderr string
}

// run runs usher in this process.
func run(t *testing.T, args ...string) result {
	t.Helper()
	return runWith(t.Context(), strings.NewReader(""), args...)
}

func runWith(ctx context.Context, stdin io.Reader, args ...string) result {
	var stdout, stderr bytes.Buffer
	code := Run(ctx, args, stdin, &stdout, &stderr)
	return result{code: code, stdout: stdout.String(), stderr: stderr.String()}
}

// want fails the test unless the run ended with code and its output has the
// texts.
func (r result) want(t *testing.T, code int, stdout, stderr string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.stdout, stdout) || !strings.Contains(r.stderr, stderr) {
		t.Errorf("exit code %d, stdout:\n%s\nstderr:\n%s\nwant %d, stdout with %q, stderr with %q",
			r.code, r.stdout, r.stderr, code, stdout, stderr)
	}
	if stdout == "" && r.stdout != "" {
		t.Errorf("stdout is %q, want nothing", r.stdout)
	}
	if stderr == "" && r.stderr != "" {
		t.Errorf("stderr is %q, want nothing", r.stderr)
	}
}

//go:build unix

package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// serve runs `usher serve` until stop, and returns once the broker answers at
// socket.
func serve(t *testing.T, socket string, args ...string) (stop func() result) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan result, 1)
	go func() { done <- runWith(ctx, strings.NewReader(""), append([]string{"serve"}, args...)...) }()
	testutil.WaitFor(t, "the broker answers", func() bool {
		return run(t, "healthz", "--socket", socket).code == 0
	})
	return func() result {
		cancel()
		return <-done
	}
}

func TestServe(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	stop := serve(t, p.socket)
	run(t, "status").want(t, 0, "shared, pid", "")
	r := stop()
	r.want(t, 0, "", `"event":"broker.stopped"`)
	if !strings.Contains(r.stderr, `"event":"broker.serving"`) || !strings.Contains(r.stderr, fmt.Sprintf(`"socket":%q`, p.socket)) {
		t.Errorf("the log does not say where it serves:\n%s", r.stderr)
	}
	if warned := strings.Count(r.stderr, "running as root"); warned > 1 || warned == 1 != (os.Geteuid() == 0) {
		t.Errorf("%d warnings about root, with uid %d", warned, os.Geteuid())
	}
}

// TestServeStalledLog: a broker whose log nobody reads, nor closes, serves on; its
// lines are there when somebody does.
func TestServeStalledLog(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	p.define(t, "notes")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	filler := fill(t, w)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int, 1)
	go func() {
		code := Run(ctx, []string{"serve", "--log-level", "debug"}, strings.NewReader(""), io.Discard, w)
		_ = w.Close()
		done <- code
	}()
	testutil.WaitFor(t, "the broker answers", func() bool { return run(t, "healthz").code == 0 })
	t.Run("serves", func(t *testing.T) {
		p.startBackend(t, "notes", "1.0.0", echo)
		run(t, "status").want(t, 0, "accepting    yes", "")
		runWith(t.Context(), strings.NewReader("hello"), "connect", "notes@1.0.0").want(t, 0, "HELLO", "")
	})
	cancel()
	log, err := io.ReadAll(r)
	_ = r.Close()
	if code := <-done; code != 0 || err != nil {
		t.Errorf("exit code %d, log %v", code, err)
	}
	if log := string(log[filler:]); !strings.Contains(log, `"event":"broker.serving"`) || !strings.Contains(log, `"event":"broker.stopped"`) {
		t.Errorf("the log is\n%s", log)
	}
}

// fill leaves no room in the pipe and returns how many bytes that took.
func fill(t *testing.T, pipe *os.File) (filler int) {
	t.Helper()
	much := make([]byte, 1<<20)
	for wait := 20 * time.Millisecond; filler == 0; wait *= 2 { // it may be over before the write
		if err := pipe.SetWriteDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		var err error
		if filler, err = pipe.Write(much); !os.IsTimeout(err) {
			t.Fatalf("the pipe took %d bytes, %v", filler, err)
		}
	}
	if err := pipe.SetWriteDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	return filler
}

func TestServeOptions(t *testing.T) {
	p := newPlace(t)
	other := filepath.Join(p.dir, "other.sock")
	definitions := filepath.Join(p.dir, "more")
	stop := serve(t, other, "--socket", other, "--instance", "private:notes", "--service-def-dir", definitions,
		"--backend", "notes@1.0.0="+filepath.Join(p.dir, "n.sock"), "--log-format", "text", "--log-level", "warn")
	run(t, "status", "--socket", other).want(t, 0, "private:notes", "")
	run(t, "config", "--socket", other).want(t, 0, fmt.Sprintf(`{"source":"flag:--service-def-dir","value":%q}`, definitions), "")
	stop().want(t, 0, "", "event=backend.static_missing")
}

func TestServeInstanceNamesTheSocket(t *testing.T) {
	newPlace(t)
	instance, err := endpoint.Explicit("ci")
	if err != nil {
		t.Fatal(err)
	}
	socket, err := instance.SocketPath()
	if err != nil {
		t.Fatal(err)
	}
	stop := serve(t, socket, "--instance", "explicit:ci")
	run(t, "status", "--socket", socket).want(t, 0, "explicit:ci", "")
	stop().want(t, 0, "", `"event":"broker.stopped"`)
}

func TestServeHelloTimeout(t *testing.T) {
	p := newPlace(t)
	t.Setenv(endpoint.HelloTimeoutVariable, "20")
	stop := serve(t, p.socket, "--log-level", "debug")
	silent, err := endpoint.Dial(t.Context(), p.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if answer, err := io.ReadAll(silent); err != nil || !bytes.Contains(answer, []byte("incomplete Hello frame")) {
		t.Errorf("read %q, %v; want a refusal and the end", answer, err)
	}
	stop().want(t, 0, "", "incomplete Hello frame")
}

func TestServeIdleExit(t *testing.T) {
	newPlace(t)
	run(t, "serve", "--idle-exit", "10ms").want(t, 0, "", "nothing to serve")
}

func TestServeTwice(t *testing.T) {
	p := newPlace(t)
	p.startBroker(t)
	run(t, "serve").want(t, exitFailed, "", fmt.Sprintf("a process (pid %d) already serves %s", os.Getpid(), p.socket))
}

func TestServeUsage(t *testing.T) {
	newPlace(t)
	for _, tc := range []struct{ flag, value, stderr string }{
		{"--instance", "public", "names no broker instance"},
		{"--instance", "private:Notes", "service_name"},
		{"--backend", "notes", "SERVICE@VERSION=PIPE"},
		{"--drain-timeout", "0s", "above zero"},
		{"--idle-exit", "-1s", "above zero"},
		{"--ack-deadline", "x", "invalid duration"},
		{"--hello-rate", "0", "want 1 or more"},
		{"--log-level", "loud", "debug, info, warn, error"},
		{"--log-format", "xml", "auto, text, json"},
	} {
		t.Run(tc.flag+" "+tc.value, func(t *testing.T) {
			run(t, "serve", tc.flag, tc.value).want(t, exitUsage, "", tc.stderr)
		})
	}
}

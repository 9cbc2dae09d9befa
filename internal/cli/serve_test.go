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
	r.want(t, 0, "", `"msg":"stopped"`)
	if !strings.Contains(r.stderr, fmt.Sprintf(`"msg":"serving","socket":%q`, p.socket)) {
		t.Errorf("the log does not say where it serves:\n%s", r.stderr)
	}
	if warned := strings.Count(r.stderr, "running as root"); warned > 1 || warned == 1 != (os.Geteuid() == 0) {
		t.Errorf("%d warnings about root, with uid %d", warned, os.Geteuid())
	}
}

func TestServeOptions(t *testing.T) {
	p := newPlace(t)
	other := filepath.Join(p.dir, "other.sock")
	definitions := filepath.Join(p.dir, "more")
	stop := serve(t, other, "--socket", other, "--instance", "private:notes", "--service-def-dir", definitions,
		"--backend", "notes@1.0.0="+filepath.Join(p.dir, "n.sock"), "--log-format", "text", "--log-level", "warn")
	run(t, "status", "--socket", other).want(t, 0, "private:notes", "")
	run(t, "config", "--socket", other).want(t, 0, fmt.Sprintf(`{"source":"flag:--service-def-dir","value":%q}`, definitions), "")
	stop().want(t, 0, "", "static backend not reachable")
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
	stop().want(t, 0, "", "stopped")
}

func TestServeHelloTimeout(t *testing.T) {
	p := newPlace(t)
	t.Setenv(endpoint.HelloTimeoutVariable, "20")
	stop := serve(t, p.socket, "--log-level", "debug")
	silent, err := dialBroker(t.Context(), p.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if answer, err := io.ReadAll(silent); err != nil || !bytes.Contains(answer, []byte("incomplete Hello frame")) {
		t.Errorf("read %q, %v; want a refusal and the end", answer, err)
	}
	stop().want(t, 0, "", "incomplete Hello frame")
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
		{"--ack-deadline", "x", "invalid duration"},
		{"--log-level", "loud", "debug, info, warn, error"},
		{"--log-format", "xml", "auto, text, json"},
	} {
		t.Run(tc.flag+" "+tc.value, func(t *testing.T) {
			run(t, "serve", tc.flag, tc.value).want(t, exitUsage, "", tc.stderr)
		})
	}
}

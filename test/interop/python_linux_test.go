package interop

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
	"github.com/seed-7265657e/usher/internal/world"
)

const (
	pythonService = "python-pongs"
	// packages names the directory where .ci/interop has put the Python package.
	packages = "USHER_INTEROP_PYTHON"
	// consumer is the payload protocol that python/service.py has chosen.
	consumer = 0xF0B7
)

// TestPythonService: the Python package's service, which knows v1's probe and nothing of a
// broker, as a static backend of usher. Its client is sent to its socket and speaks frames
// there.
func TestPythonService(t *testing.T) {
	path := os.Getenv(packages)
	if path == "" {
		t.Skip("no Python package: .ci/interop installs it")
	}
	out, err := exec.CommandContext(t.Context(), "python3", "-c", `import os; print(os.path.realpath("/proc/self/exe"))`).Output()
	if err != nil {
		t.Fatal(err)
	}
	python := strings.TrimSpace(string(out))
	script, err := filepath.Abs("python/service.py")
	if err != nil {
		t.Fatal(err)
	}
	w, err := world.New(context.Background(), pythonService, python)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := w.Start(world.Command{
		Name: "service", Args: []string{python, script, pythonService, version, w.Dir}, Env: []string{"PYTHONPATH=" + path}, Foreign: true,
	}); err != nil {
		t.Fatal(err)
	}
	var sockets []string
	testutil.WaitFor(t, "the service has its socket", func() bool {
		sockets, err = filepath.Glob(w.Path("running-process/*/rp-svc-*.sock"))
		return len(sockets) == 1
	})
	f := &fixture{World: w, t: t}
	f.usher(f.Socket(), broker.StaticBackend{Service: pythonService, Version: version, Pipe: sockets[0]})
	request, err := frame.Append(nil, &wire.Frame{
		EnvelopeVersion: 1, Kind: wire.FrameKind_FRAME_KIND_REQUEST, PayloadProtocol: consumer, Payload: []byte("hello"), RequestId: 7,
	})
	if err != nil {
		t.Fatal(err)
	}
	opts := client.Options{Service: pythonService, Version: version, Broker: f.Socket()}
	for _, early := range []bool{false, true} {
		conn, err := dialWith(opts, string(request), early)
		if err != nil {
			t.Fatal(err)
		}
		answer, _, err := frame.Read(conn, frame.MaxBody)
		if err != nil || string(answer.Payload) != "pong:hello" || answer.RequestId != 7 || conn.Route() != client.Reconnected {
			t.Errorf("early data %t: %v by %s, %v", early, answer, conn.Route(), err)
		}
		_ = conn.Close()
	}
}

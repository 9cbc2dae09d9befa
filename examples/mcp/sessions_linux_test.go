package main

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/seed-7265657e/usher/internal/world"
)

// The test binary is the server too: as broker and daemon in Main, and as what a host
// starts where this variable is set.
const asServer = "MCP_TEST_SERVER"

var (
	root     = flag.String("root", ".", "the `directory` that the benchmark's servers read")
	sessions = flag.Int("sessions", 20, "how many sessions it has")
)

func TestMain(m *testing.M) {
	tool.Main()
	if os.Getenv(asServer) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// host is a program that has sessions with the server, each over a process of its own.
type host struct {
	tb   testing.TB
	tool *world.Installed
	ctx  context.Context
	pids []int // of the processes that it has started
}

func newHost(tb testing.TB) *host {
	tb.Helper()
	i, err := world.Install("/proc/self/exe")
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	tb.Cleanup(func() {
		cancel()
		if tb.Failed() {
			tb.Log(i.Logs())
		}
		if err := i.Close(); err != nil {
			tb.Error(err)
		}
	})
	return &host{tb: tb, tool: i, ctx: ctx}
}

// open begins a session, which ends with the test.
func (h *host) open(args ...string) *mcp.ClientSession {
	h.tb.Helper()
	cmd := exec.Command(h.tool.Bin, args...)
	cmd.Env = append(h.tool.Env[:len(h.tool.Env):len(h.tool.Env)], asServer+"=1")
	cmd.Stderr = os.Stderr
	client := mcp.NewClient(&mcp.Implementation{Name: "host", Version: "1.0.0"}, nil)
	session, err := client.Connect(h.ctx, &mcp.CommandTransport{Command: cmd}, nil)
	if err != nil {
		h.tb.Fatal(err)
	}
	h.pids = append(h.pids, cmd.Process.Pid)
	h.tb.Cleanup(func() {
		if err := session.Close(); err != nil {
			h.tb.Error(err)
		}
	})
	return session
}

// find asks where name is declared.
func (h *host) find(session *mcp.ClientSession, name string) []string {
	h.tb.Helper()
	result, err := session.CallTool(h.ctx, &mcp.CallToolParams{Name: "find_declarations", Arguments: question{Name: name}})
	if err != nil || result.IsError {
		h.tb.Fatalf("%v: %v", err, result)
	}
	text, err := json.Marshal(result.StructuredContent)
	if err != nil {
		h.tb.Fatal(err)
	}
	var a answer
	if err := json.Unmarshal(text, &a); err != nil {
		h.tb.Fatal(err)
	}
	return a.Places
}

// processes are those of all sessions, and broker and daemon.
func (h *host) processes() (daemons int, all []int) {
	h.tb.Helper()
	live, err := h.tool.Processes()
	if err != nil {
		h.tb.Fatal(err)
	}
	return len(live), append(live, h.pids...)
}

// TestSessions: twenty sessions of one directory have one daemon; each gets its answers,
// and goes on when another ends.
func TestSessions(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x.go"), []byte("package x\n\nfunc Found() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := newHost(t)
	var open []*mcp.ClientSession
	for range 20 {
		open = append(open, h.open(dir))
	}
	for i, session := range open {
		if places := h.find(session, "Found"); len(places) != 1 || places[0] != "x.go:3: func" {
			t.Errorf("session %d: %q", i, places)
		}
		if places := h.find(session, "Missing"); len(places) != 0 {
			t.Errorf("session %d: %q", i, places)
		}
		if i == 0 {
			if err := session.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if started, _ := h.processes(); started != 2 {
		t.Errorf("%d processes beside the sessions' own, want broker and daemon", started)
	}
}

// BenchmarkSessions measures what all processes of -sessions sessions occupy once each
// has had an answer: with usher, and as plain servers.
func BenchmarkSessions(b *testing.B) {
	for name, args := range map[string][]string{"usher": {*root}, "plain": {"-plain", *root}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				h := newHost(b)
				var open []*mcp.ClientSession
				for range *sessions {
					open = append(open, h.open(args...))
				}
				for _, session := range open {
					h.find(session, "Reader")
				}
				_, all := h.processes()
				shared, resident, err := world.Memory(all...)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(len(all)), "processes")
				b.ReportMetric(float64(shared)/(1<<20), "PSS-MiB")
				b.ReportMetric(float64(resident)/(1<<20), "RSS-MiB")
			}
		})
	}
}

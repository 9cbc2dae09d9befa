package usher_test

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestFirstCallsAtOnce: 64 calls from nothing start one broker and one daemon, and each is
// served.
func TestFirstCallsAtOnce(t *testing.T) {
	for range 3 {
		i := install(t)
		said, failed, _ := i.together(64)
		daemons := make(map[int]bool)
		for _, answer := range said {
			if !strings.HasPrefix(answer, "pid=") {
				t.Errorf("got %q", answer)
				continue
			}
			daemons[pid(t, answer)] = true
		}
		if n := len(i.processes()); failed > 0 || len(daemons) != 1 || n != 2 {
			t.Errorf("%d failed; %d daemons answered; %d processes live on, want broker and daemon", failed, len(daemons), n)
		}
		if err := i.End(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestDaemonExits: all who wait are told the same at once: how it ended, what it said, and
// where its log is. No process is left but the broker, and no zombie.
func TestDaemonExits(t *testing.T) {
	i := install(t)
	said, failed, _ := i.together(64, envDaemon+"=exits")
	for k := range said { // a busy machine's last ones come when three of them have exited
		said[k] = strings.Replace(said[k], "it was started 3 times in 30s: ", "", 1)
	}
	slices.Sort(said)
	said = slices.Compact(said)
	if failed != 64 || len(said) != 1 {
		t.Errorf("%d of 64 failed, with %d texts: %q", failed, len(said), said)
	}
	if strings.Contains(said[0], "usher service") {
		t.Errorf("speaks of a definition, which a tool has not: %s", said[0])
	}
	for _, part := range []string{"exited with code 1 before it was ready", "no cache directory", "can't serve", "its log is " + i.Dir} {
		if !strings.Contains(said[0], part) {
			t.Errorf("%q is not in %s", part, said[0])
		}
	}
	alive := i.processes()
	if len(alive) != 1 {
		t.Fatalf("%d processes, want the broker's alone", len(alive))
	}
	if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", alive[0])); !testutil.Portable && string(name) != tool.Name+"\n" || err != nil {
		t.Errorf("the broker is called %q, %v", name, err)
	}
}

// TestDaemonFails: a daemon that is killed, and one that does not become ready, are told
// apart; after three tries nobody starts it for a while, and the last reason is given.
func TestDaemonFails(t *testing.T) {
	i := install(t)
	for daemon, parts := range map[string][]string{
		"dies":  {"was ended by signal: killed"},
		"hangs": {"was not ready in 5s, and was ended", "waiting for the licence server"},
	} {
		t.Run(daemon, func(t *testing.T) {
			out, err := i.command("x", envDaemon+"="+daemon, "TOOL_START_TIMEOUT=5s").Output()
			for _, part := range parts {
				if err == nil || !strings.Contains(string(out), part) {
					t.Errorf("%v: %s: want %q", err, out, part)
				}
			}
			if daemon == "hangs" {
				return
			}
			testutil.WaitFor(t, "it is not started any more", func() bool {
				out, err = i.command("x", envDaemon+"="+daemon, "TOOL_START_TIMEOUT=5s").Output()
				return strings.Contains(string(out), "it was started 3 times in 30s")
			})
			if err == nil || !strings.Contains(string(out), parts[0]) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	if said := i.calls("fine"); field(said, "said") != "fine" {
		t.Errorf("others suffer: %q", said)
	}
}

// TestBrokerFindsAnother: a broker that was started although one serves, because the call
// that had started that one was ended too early to see it, says at once that one serves.
// Its own caller would else wait until the other one ends.
func TestBrokerFindsAnother(t *testing.T) {
	i := install(t)
	i.calls("x")
	ready, told, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	cmd := i.command("", "USHER_ROLE=broker", "USHER_STARTER=3", envCall+"=")
	cmd.ExtraFiles = []*os.File{told}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = told.Close()
	word, err := io.ReadAll(ready)
	if took := time.Since(began); string(word) != "ready\n" || err != nil || took > time.Minute {
		t.Errorf("said %q, %v after %v", word, err, took)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if n := len(i.processes()); n != 2 {
		t.Errorf("%d processes, want broker and daemon", n)
	}
}

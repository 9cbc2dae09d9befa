package languages

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/adminclient"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// startedPrograms are the backends that the broker can start: their claims are in a page.
func startedPrograms() (those []backendProgram) {
	for _, p := range backendPrograms {
		if p.page {
			those = append(those, p)
		}
	}
	return those
}

// newStartedFixture has the broker start the backends; start are further lines of that table.
func newStartedFixture(t *testing.T, program backendProgram, acks time.Duration, f fault, start string) *fixture {
	t.Helper()
	w := newFixture(t, program, acks)
	w.log = filepath.Join(w.logs(), service+".log")
	c := program.command(t, w.executable, f)
	var definition strings.Builder
	fmt.Fprintf(&definition, "binary_path = %q\n[start]\n%s\nargs = [", w.executable, start)
	for _, argument := range c.Args[1:] {
		fmt.Fprintf(&definition, "%q, ", argument)
	}
	definition.WriteString("]\n[start.env]\n")
	for _, variable := range c.Env {
		name, value, _ := strings.Cut(variable, "=")
		fmt.Fprintf(&definition, "%s = %q\n", name, value)
	}
	if err := os.WriteFile(filepath.Join(w.Definitions(), service+".toml"), []byte(definition.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

// endStarted ends what the broker has started, which would outlive it.
func (w *fixture) endStarted() {
	testutil.WaitFor(w.t, "what was started has ended", func() bool {
		instances := w.status().Instances
		for _, i := range instances {
			_ = syscall.Kill(i.PID, syscall.SIGKILL)
		}
		return len(instances) == 0
	})
}

// only is the one instance there is.
func (w *fixture) only() int {
	w.t.Helper()
	instances := w.status().Instances
	if len(instances) != 1 {
		w.t.Fatalf("instances %v, want one", instances)
	}
	return instances[0].PID
}

// TestStarted has the broker start the backends on demand. They tell how many connections
// they have, make room for a successor, and outlive the broker.
func TestStarted(t *testing.T) {
	testutil.Leaks(t)
	for _, program := range startedPrograms() {
		t.Run(program.name, func(t *testing.T) {
			w := newStartedFixture(t, program, patience, fault{}, "")
			defer w.endStarted()
			for _, c := range []clientProgram{goClient, pythonClient, cClient, nodeClient} {
				t.Run(c.name, func(t *testing.T) {
					w.in(t).healthy(c, true)
					w.in(t).healthy(c, false)
				})
			}
			first := w.only()
			open, err := dialGo(w, "", false)
			if err != nil {
				t.Fatal(err)
			}
			defer open.Close()
			testutil.WaitFor(t, "it tells its connections", func() bool { return w.status().Instances[0].Connections == 1 })

			reply, err := adminclient.Ask(t.Context(), w.Socket(), &wire.AdminRequest{
				Verb: wire.AdminVerb_ADMIN_VERB_SERVICE_RESTART, ServiceName: service,
			})
			if err != nil || reply.ExitCode != 0 {
				t.Fatalf("restart: %v, %v", reply, err)
			}
			w.healthy(goClient, true)
			_, _ = io.WriteString(open, "kept\n")
			if line, err := bufio.NewReader(open).ReadString('\n'); line != "kept done\n" {
				t.Errorf("the connection from before the restart: %q, %v", line, err)
			}
			_ = open.Close()
			testutil.WaitFor(t, "the first has ended", func() bool { return len(w.status().Instances) == 1 })
			second := w.only()
			if second == first {
				t.Error("the same process")
			}

			w.stopBroker()
			w.startBroker()
			testutil.WaitFor(t, "it has registered", func() bool { return len(w.status().Backends) == 1 })
			w.healthy(goClient, true)
			if w.only() != second {
				t.Error("another was started, though one had registered")
			}
			if n := w.status().Clients.Reconnected; n != 0 {
				t.Errorf("%d clients reconnected", n)
			}
		})
	}
}

// TestStartedIdle: an instance without a connection ends after its idle time, with a broker
// and without one, and not before.
func TestStartedIdle(t *testing.T) {
	testutil.Leaks(t)
	for _, program := range startedPrograms() {
		t.Run(program.name, func(t *testing.T) {
			w := newStartedFixture(t, program, patience, fault{}, `idle = "0h0m1.0s"`)
			w.healthy(goClient, true)
			w.healthy(goClient, false)
			held, err := dialGo(w, "", false) // or it may end before it is looked at
			if err != nil {
				t.Fatal(err)
			}
			if first := w.only(); first == 0 {
				t.Error("no process")
			}
			_ = held.Close()
			testutil.WaitFor(t, "it has ended", func() bool { return len(w.status().Instances) == 0 })
			if sockets, err := filepath.Glob(w.Path(service + "-*.sock")); len(sockets) > 0 || err != nil {
				t.Errorf("left behind: %v, %v", sockets, err)
			}
			w.healthy(goClient, true)
			if held, err = dialGo(w, "", false); err != nil {
				t.Fatal(err)
			}
			alone := w.only()
			w.stopBroker()
			_ = held.Close()
			testutil.WaitFor(t, "it has ended without a broker", func() bool { return gone(alone) })
		})
	}
}

// gone reports whether a process has ended: it may be a child of this one.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(stat, []byte(") Z "))
}

func frozen(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && bytes.Contains(stat, []byte(") T "))
}

// TestStartedFaults kills and freezes started backends between receiving a connection and
// adopting it: a request runs at most once, also after a thaw.
func TestStartedFaults(t *testing.T) {
	testutil.Leaks(t)
	for _, program := range startedPrograms() {
		t.Run(program.name, func(t *testing.T) {
			t.Parallel()
			for _, at := range places {
				if at.step != "received" && at.step != "claimed" {
					continue // for the others see TestFaults
				}
				for _, s := range []signal{kill, stop} {
					t.Run(fmt.Sprintf("%s, early data %t, %s", at.step, at.early, s.name), func(t *testing.T) {
						w := newStartedFixture(t, program, ackDeadline, fault{at.step, s}, "")
						defer w.endStarted()
						w.patience = 2 * inVain
						done := make(chan result, 1)
						go func() { done <- w.ask(goClient, at.early) }()
						if s == stop {
							testutil.WaitFor(t, "it is frozen", func() bool {
								i := w.status().Instances
								return len(i) == 1 && frozen(i[0].PID)
							})
						}
						got := <-done
						if s == stop {
							_ = syscall.Kill(w.only(), syscall.SIGCONT)
							w.patience = patience
							w.healthy(goClient, at.early) // it goes on, and the fault is over
						} else if got.verdict == answered {
							t.Error("answered by one that was killed before it could")
						}
						w.judge(got)
					})
				}
			}
		})
	}
}

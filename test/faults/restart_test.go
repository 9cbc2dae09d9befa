//go:build linux

package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/adminclient"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// restarts is how often a service is restarted under load, half of them with requests that
// go along with Hello.
func restarts() int {
	if testing.Short() {
		return 6
	}
	return 50
}

// onDemand is a fixture whose broker starts the service from a file of its own.
type onDemand struct {
	*fixture
	binary string
	builds int
}

func newOnDemand(t *testing.T) *onDemand {
	t.Helper()
	w := &onDemand{fixture: newFixture(t)}
	w.binary = w.Path("service")
	w.replace()
	encoded, err := json.Marshal(role{Journal: w.journal})
	if err != nil {
		t.Fatal(err)
	}
	definition := fmt.Sprintf("binary_path = %q\n[start]\nargs = [%q, %q, %q]\n", w.binary, roleArgument, "instance", encoded)
	if err := os.WriteFile(w.Definitions()+"/"+service+".toml", []byte(definition), 0o600); err != nil {
		t.Fatal(err)
	}
	w.startBroker(role{})
	return w
}

// replace puts another build in the service's place, as an installer does.
func (w *onDemand) replace() {
	w.t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		w.t.Fatal(err)
	}
	w.builds++
	if err := os.WriteFile(w.binary+".new", fmt.Append(self, w.builds), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(w.binary+".new", w.binary); err != nil {
		w.t.Fatal(err)
	}
}

// control asks the broker for a service verb, and returns what it says.
func (w *onDemand) control(verb wire.AdminVerb, wait time.Duration) (text string, done bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	reply, err := adminclient.Ask(ctx, w.Socket(), &wire.AdminRequest{Verb: verb, ServiceName: service, DrainDeadlineMs: uint64(wait.Milliseconds())})
	if err != nil {
		w.t.Fatal(err)
	}
	return reply.Body, reply.ExitCode == 0
}

func (w *onDemand) must(verb wire.AdminVerb) {
	w.t.Helper()
	if text, done := w.control(verb, patience); !done {
		w.t.Errorf("%v: %s", verb, text)
	}
}

// long is a connection that is there while the service is restarted.
type long struct {
	conn  *client.Conn
	lines *bufio.Reader
	pid   int
}

func (w *onDemand) long() *long {
	w.t.Helper()
	conn, err := w.dial(patience)
	if err != nil {
		w.t.Fatal(err)
	}
	l := &long{conn: conn, lines: bufio.NewReader(conn)}
	l.pid = w.who(l)
	return l
}

func (w *onDemand) who(l *long) (pid int) {
	w.t.Helper()
	_ = l.conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintln(l.conn, "who"); err != nil {
		w.t.Fatal(err)
	}
	if _, err := fmt.Fscanln(l.lines, &pid); err != nil {
		w.t.Fatal(err)
	}
	return pid
}

// TestRestartsUnderLoad restarts a service that is started on demand while 8 clients ask
// without a pause: none fails, nothing runs twice, and each connection that was there
// before is served to its end by the process that had it.
func TestRestartsUnderLoad(t *testing.T) {
	testutil.Leaks(t)
	for _, c := range []struct {
		name    string
		restart func(*onDemand)
	}{
		{"restarted", func(w *onDemand) { w.must(wire.AdminVerb_ADMIN_VERB_SERVICE_RESTART) }},
		{"replaced", func(w *onDemand) {
			w.replace()
			w.must(wire.AdminVerb_ADMIN_VERB_SERVICE_RESTART)
		}},
		{"replaced in a pause", func(w *onDemand) {
			w.must(wire.AdminVerb_ADMIN_VERB_SERVICE_PAUSE)
			if text, done := w.control(wire.AdminVerb_ADMIN_VERB_SERVICE_STOP, 20*time.Millisecond); done || !strings.Contains(text, "has not ended yet") {
				w.t.Errorf("stopped with a connection that is open: %s", text)
			}
			w.replace()
			w.must(wire.AdminVerb_ADMIN_VERB_SERVICE_RESUME)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newOnDemand(t)
			began, requests := time.Now(), 0
			for _, early := range []bool{false, true} {
				w.early = early
				results := w.underLoad(func() {
					for range restarts() / 2 {
						l := w.long()
						c.restart(w)
						if pid := w.who(l); pid != l.pid {
							t.Errorf("a connection of process %d is with %d", l.pid, pid)
						}
						_ = l.conn.Close()
						testutil.WaitFor(t, "the old process has ended", func() bool { return errors.Is(syscall.Kill(l.pid, 0), syscall.ESRCH) })
					}
				})
				w.judge(results...)
				for _, r := range results {
					if r.verdict != answered {
						t.Errorf("%s: %s by %q: %v", r.id, r.verdict, r.route, r.err)
					}
				}
				requests += len(results)
			}
			t.Logf("%d restarts, %d requests, %v", restarts()/2*2, requests, time.Since(began).Round(time.Millisecond))
			w.must(wire.AdminVerb_ADMIN_VERB_SERVICE_STOP)
			w.broker.quit()
		})
	}
}

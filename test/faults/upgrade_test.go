//go:build linux

package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/adminclient"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// upgrade has the broker replaced, and returns what it says and whether it was.
func (w *fixture) upgrade() (said string, done bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	reply, err := adminclient.Ask(ctx, w.Socket(), &wire.AdminRequest{Verb: wire.AdminVerb_ADMIN_VERB_UPGRADE})
	if err != nil {
		w.t.Fatal(err)
	}
	return reply.Body, reply.ExitCode == 0
}

// since is since when the broker's one backend has served, by the word of the broker that
// took its registration.
func (w *fixture) since() (ms int64) {
	w.t.Helper()
	reply, err := adminclient.Ask(context.Background(), w.Socket(), &wire.AdminRequest{Verb: wire.AdminVerb_ADMIN_VERB_STATUS, Json: true})
	if err != nil {
		w.t.Fatal(err)
	}
	var status struct {
		Instances []struct {
			Since int64 `json:"since_unix_ms"`
		}
	}
	if err := json.Unmarshal([]byte(reply.Body), &status); err != nil || len(status.Instances) != 1 {
		w.t.Fatalf("%v in %s", err, reply.Body)
	}
	return status.Instances[0].Since
}

// TestUpgradeUnderLoad replaces the broker again and again while clients keep coming: each
// is served, once, a connection from before lives on, and the backend does not register
// again.
func TestUpgradeUnderLoad(t *testing.T) {
	testutil.Leaks(t)
	for _, early := range []bool{false, true} {
		t.Run(fmt.Sprintf("early data %t", early), func(t *testing.T) {
			w := newFixture(t)
			w.early = early
			w.startBroker(role{Successor: []string{"self"}})
			b := w.start("backend", role{})
			w.settled()
			rests := b.atRest()
			old, err := client.Dial(context.Background(), client.Options{Service: service, Version: version, Broker: w.Socket()})
			if err != nil {
				t.Fatal(err)
			}
			line := bufio.NewReader(old)
			pid, registered, since := 0, 0, w.since()
			for n := range min(rounds(), 20) {
				results := w.underLoad(func() {
					said, done := w.upgrade()
					if _, err := fmt.Sscanf(said, "broker %d serves", &pid); !done || err != nil {
						t.Fatalf("upgrade %d: %s", n, said)
					}
					w.registered(1)
				})
				w.judge(results...)
				for _, r := range results {
					if r.verdict != answered {
						t.Errorf("upgrade %d: %s: %s: %v", n, r.id, r.verdict, r.err)
					}
				}
				refused := w.status().Clients.Refused
				delete(refused, "ERROR_RATE_LIMITED") // clients of one process may be too fast, and ask again
				if len(refused) > 0 {
					t.Errorf("upgrade %d: the next broker refused: %v", n, refused)
				}
				if now := w.since(); now != since {
					registered, since = registered+1, now
				}
				id := fmt.Sprintf("old-%d", n)
				if _, err := fmt.Fprintln(old, id); err != nil {
					t.Fatal(err)
				}
				if got, err := line.ReadString('\n'); got != id+" done\n" {
					t.Fatalf("%q, %v", got, err)
				}
			}
			if registered > 2 && !testutil.Portable { // it may, where it has missed a deadline just then; where channels are not passed on, it must
				t.Errorf("the backend registered %d times", registered)
			}
			_ = old.Close()
			rests()
			w.broker.quit() // it has ended long since
			if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
				t.Error(err)
			}
			testutil.WaitFor(t, "the last broker has ended", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
			b.quit()
		})
	}
}

// TestUpgradeFails: a successor that ends, and one that is no broker, leave the old one
// serving, which says why.
func TestUpgradeFails(t *testing.T) {
	testutil.Leaks(t)
	for name, c := range map[string]struct {
		successor []string
		want      string
	}{
		"none":         {nil, "does not know how to start another: stop it, and have it started again"},
		"missing":      {[]string{"/nonexistent/usher"}, "no such file"},
		"ends":         {[]string{"/bin/false"}, "exited with code 1"},
		"says nothing": {[]string{"/bin/sh", "-c", "exec 3>&-; sleep 100"}, "was ended by signal"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newFixture(t)
			w.startBroker(role{Successor: c.successor})
			b := w.start("backend", role{})
			w.settled()
			rests := w.broker.atRest()
			results := w.underLoad(func() {
				if said, done := w.upgrade(); done || !strings.Contains(said, c.want) || !strings.Contains(said, "upgrade: ") {
					t.Errorf("said %q, %t", said, done)
				}
			})
			w.judge(results...)
			for _, r := range results {
				if r.verdict != answered {
					t.Errorf("%s: %s: %v", r.id, r.verdict, r.err)
				}
			}
			w.settled()
			rests()
			conn, err := net.Dial("unix", w.Socket()) // whose socket it is has been put right
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
			b.quit()
			w.broker.quit()
		})
	}
}

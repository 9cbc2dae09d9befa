//go:build linux

package faults

import (
	"fmt"
	"net"
	"testing"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// mutes is how many clients never read at a time: more than the processes have
// threads, so that a write that blocked would show.
const mutes = 40

// TestClientNeverReads is row 19: clients that ask, of each kind, and never read.
// Nobody waits for them: others are served, the broker is rid of them at once, and
// with them gone the backend is too.
func TestClientNeverReads(t *testing.T) {
	testutil.Leaks(t)
	for _, c := range []struct {
		name         string
		capabilities uint64
		early, ran   bool
	}{
		{"handed over with early data", frame.CapUsher, true, true},
		{"handed over, silent", frame.CapUsher | frame.CapHandlePassing, false, false},
		{"told to reconnect", 0, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, end := steadyFixture(t, c.early, patience)
			brokerRests := w.broker.atRest()
			var conns []net.Conn
			var ids []string
			for n := range mutes {
				id := fmt.Sprintf("mute-%d", n)
				conns, ids = append(conns, w.mute(c.capabilities, c.early, id)), append(ids, id)
			}
			for range 5 { // with the one that settled it, six
				w.healthy()
			}
			brokerRests() // with all of them still there
			if c.ran {
				testutil.WaitFor(t, "their requests have been run", func() bool { return len(w.executions()) >= mutes+6 })
			}
			for _, conn := range conns {
				_ = conn.Close()
			}
			end()
			ran := w.executions()
			want := 0
			if c.ran {
				want = 1
			}
			for _, id := range ids {
				if ran[id] != want {
					t.Errorf("%s ran %d times, want %d", id, ran[id], want)
				}
			}
		})
	}
}

// mute sends a Hello, and a request behind it, on a connection that nobody reads.
func (w *fixture) mute(capabilities uint64, early bool, id string) net.Conn {
	w.t.Helper()
	ask := hello.Request{Service: service, Version: version, Capabilities: capabilities}
	request := []byte(id + "\n")
	if early {
		ask.EarlyDataLen = uint32(len(request))
	} else {
		request = nil
	}
	f, err := ask.Frame()
	if err != nil {
		w.t.Fatal(err)
	}
	sent, err := frame.Append(nil, f)
	if err != nil {
		w.t.Fatal(err)
	}
	conn, err := net.Dial("unix", w.Socket())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	if _, err := conn.Write(append(sent, request...)); err != nil {
		w.t.Fatal(err)
	}
	return conn
}

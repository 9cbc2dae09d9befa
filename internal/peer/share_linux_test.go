//go:build linux && !usher_portable

package peer_test

import (
	"os"
	"testing"

	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestShare: who is passed a handle knows the same process, and its end.
func TestShare(t *testing.T) {
	testutil.Leaks(t)
	c := start(t, testutil.Helper(t, "connect and stay"), "")
	p := open(t, c.Process.Pid)
	fd, err := p.Share()
	if err != nil {
		t.Fatal(err)
	}
	late, err := p.Share()
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	if _, err := p.Share(); err == nil {
		t.Error("a closed handle is shared")
	}
	again, err := peer.Resume(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.PID() != c.Process.Pid || !again.Alive() {
		t.Errorf("process %d, alive %t", again.PID(), again.Alive())
	}
	c.end(t)
	if err := again.Wait(t.Context()); err != nil || again.Alive() {
		t.Errorf("its end: %v, alive %t", err, again.Alive())
	}
	if _, err := peer.Resume(late); err == nil {
		t.Error("one that has ended is resumed")
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	null, err := sock.Duplicate(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := peer.Resume(null); err == nil {
		t.Error("a file is resumed")
	}
}

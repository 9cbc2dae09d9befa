package broker_test

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// liveBackend is the socket of what may be an instance of an earlier broker, which does not
// register.
func liveBackend(t *testing.T) {
	t.Helper()
	t.Setenv("XDG_RUNTIME_DIR", testutil.SocketDir(t))
	path, err := endpoint.NewBackendPath()
	if err == nil {
		err = endpoint.EnsurePrivate(filepath.Dir(path))
	}
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
}

// reunion is how long a broker waits at least for instances of an earlier one.
const reunion = 200 * time.Millisecond

// TestVerbWhileOrphansMayCome: where instances of an earlier broker may register, a verb waits
// for them, and is answered when their time is over.
func TestVerbWhileOrphansMayCome(t *testing.T) {
	liveBackend(t)
	begun := time.Now()
	s := newSite(t, nil)
	if !s.OrphansAwaited() && time.Since(begun) < reunion {
		t.Fatal("nobody is waited for")
	}
	if o := s.control(verbStop, "", patience); o.exit != 0 || !strings.Contains(o.Text[0], "no instance") {
		t.Errorf("got %+v", o)
	}
	if s.OrphansAwaited() {
		t.Error("the verb did not wait")
	}
}

// TestStartBehindOrphans: a client waits for them, and has an instance started when their
// time is over.
func TestStartBehindOrphans(t *testing.T) {
	liveBackend(t)
	begun := time.Now()
	s := starting(t, "", "")
	if !s.OrphansAwaited() && time.Since(begun) < reunion {
		t.Fatal("nobody is waited for")
	}
	c := s.dial() // asks once
	send(t, c, helloFor(t, usherClient, nil))
	readHandedOver(t, c)
	if s.OrphansAwaited() {
		t.Error("the instance was started before")
	}
}

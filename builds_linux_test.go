package usher_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestBuilds: each build is served by a daemon of its own; a call after the file was
// replaced by the new one, while the old daemon serves its connections to their end.
func TestBuilds(t *testing.T) {
	i := install(t)
	i.idle = 100 * time.Millisecond
	old := i.stays()
	first := old.says("one")
	again := i.calls("x")
	if err := i.Replace("/proc/self/exe", "another build"); err != nil {
		t.Fatal(err)
	}
	second := i.calls("x")
	if pid(t, first) != pid(t, again) || pid(t, first) == pid(t, second) {
		t.Errorf("the same build: %q and %q; another: %q", first, again, second)
	}
	if third := old.says("two"); pid(t, third) != pid(t, first) {
		t.Errorf("the old connection is served by %q", third)
	}
	old.ends()
	testutil.WaitFor(t, "the old daemon ends", func() bool { return syscall.Kill(pid(t, first), 0) != nil })
}

// TestKeys: what must not be shared is not, and what the first caller happened to have set
// reaches nobody.
func TestKeys(t *testing.T) {
	i := install(t)
	dir := t.TempDir()
	daemons := make(map[int]string)
	for _, env := range [][]string{
		nil, {"TOOL_KEY=a"}, {"TOOL_KEY=b"}, {"GOVERSION=go1.26"}, {"GOVERSION=go1.27"}, {"TOOL_DIR=" + dir},
	} {
		first, again := i.calls("x", append(env, "ACCIDENTAL=1")...), i.calls("x", append(env, "ACCIDENTAL=2")...)
		p := pid(t, first)
		if p != pid(t, again) {
			t.Errorf("%v: two daemons: %q, %q", env, first, again)
		}
		if other, shared := daemons[p]; shared {
			t.Errorf("%v shares a daemon with %s", env, other)
		}
		daemons[p] = fmt.Sprint(env)
		if field(first, "accidental") != `""` {
			t.Errorf("the environment of the first caller is there: %q", first)
		}
		if field(first, "ushers") != "0" {
			t.Errorf("children of the daemon would get what is the daemon's alone: %q", first)
		}
	}
	if said := i.calls("x", "TOOL_DIR="+dir); field(said, "dir") != dir {
		t.Errorf("works in %q", said)
	}
	if said := i.calls("x", "GOVERSION=go1.27"); field(said, "go") != "go1.27" || field(said, "dir") != "/" {
		t.Errorf("got %q", said)
	}
}

// TestNewerBuildIsTheBroker: a call of a newer build has the broker replaced by that build,
// while calls go on; one of an older build is served, and changes nothing.
func TestNewerBuildIsTheBroker(t *testing.T) {
	i := install(t)
	old := i.stays()
	first := old.says("one")
	older := filepath.Join(i.Dir, "older")
	if err := os.Link(i.Bin, older); err != nil {
		t.Fatal(err)
	}
	before := i.broker()
	if err := i.Replace("/proc/self/exe", "a newer build"); err != nil {
		t.Fatal(err)
	}
	newer, err := os.Stat(i.Bin)
	if err != nil {
		t.Fatal(err)
	}
	isNewer := func() bool {
		fi, err := os.Stat(fmt.Sprintf("/proc/%d/exe", i.broker()))
		return err == nil && os.SameFile(fi, newer)
	}
	second := i.calls("x")
	testutil.WaitFor(t, "the newer build is the broker", func() bool { i.calls("x"); return isNewer() })
	testutil.WaitFor(t, "the older one has ended", func() bool { return errors.Is(syscall.Kill(before, 0), syscall.ESRCH) })
	if p := pid(t, i.calls("x")); p != pid(t, second) {
		t.Errorf("served by %d, before the upgrade by %d", p, pid(t, second))
	}
	cmd := i.command("x")
	cmd.Path, cmd.Args[0] = older, older
	out, err := cmd.Output()
	if same := err == nil && pid(t, string(out)) == pid(t, first); err != nil || !same && !testutil.Portable {
		t.Errorf("the older build: %v, %q, before by %q", err, out, first)
	}
	if third := old.says("two"); pid(t, third) != pid(t, first) {
		t.Errorf("the old connection is served by %q", third)
	}
	old.ends()
	if !isNewer() {
		t.Error("the older build has become the broker again")
	}
}

// broker is the pid of who listens on the tool's socket.
func (i *installed) broker() int {
	i.t.Helper()
	found, _ := filepath.Glob(filepath.Join(i.Dir, "running-process", "broker", "*-svc-testtool.sock"))
	if len(found) != 1 {
		i.t.Fatalf("sockets %q", found)
	}
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: found[0], Net: "unix"})
	if err != nil {
		i.t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		i.t.Fatal(err)
	}
	var cred *syscall.Ucred
	_ = raw.Control(func(fd uintptr) {
		cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err != nil {
		i.t.Fatal(err)
	}
	return int(cred.Pid)
}

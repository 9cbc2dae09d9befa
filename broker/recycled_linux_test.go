package broker_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// envNamespace says that this is a test that has a pid namespace for itself, whose first
// process it is.
const envNamespace = "BROKERTEST_NAMESPACE"

// inNamespace runs the test that calls it again, in a pid namespace of its own. It is true
// there; elsewhere the test is done when inNamespace returns.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(envNamespace) == t.Name() {
		for _, m := range []struct {
			source, target, kind string
			flags                uintptr
		}{{"none", "/", "", unix.MS_REC | unix.MS_PRIVATE}, {"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC}} {
			if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
				t.Skipf("no /proc of this namespace's own: mount %s: %v", m.target, err)
			}
		}
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), envNamespace+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_CHECKPOINT_RESTORE}
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &exit):
		t.Skipf("no pid namespace: %v", err)
	case bytes.Contains(out, []byte("--- SKIP")):
		t.Skipf("in a pid namespace:\n%s", out)
	case err != nil || !bytes.Contains(out, []byte("--- PASS")):
		t.Errorf("in a pid namespace: %v\n%s", err, out)
	}
	return false
}

// TestRecycledPid: the process that has a dead backend's number is not taken for it, whatever
// the broker holds on to processes by, and although the backend's own child has the channel
// open and so hides its end. No client is handed over, and who stops the service, or has it
// started anew, leaves that process alone.
func TestRecycledPid(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for _, means := range []string{"", "no pidfd"} {
		t.Run(means, func(t *testing.T) { recyclesPid(t, means) })
	}
}

func recyclesPid(t *testing.T, means string) {
	s := &site{tb: t, dir: testutil.SocketDir(t)}
	s.defs = filepath.Join(s.dir, "defs")
	if err := os.Mkdir(s.defs, 0o700); err != nil {
		t.Fatal(err)
	}
	s.define(demo, "")
	socket := filepath.Join(s.dir, "b.sock")
	start(t, "refused broker", envCalls+"="+means, envErrno+"="+strconv.Itoa(int(unix.ENOSYS)), envSocket+"="+s.dir)
	b := start(t, "backend", envSocket+"="+socket, envPipe+"="+filepath.Join(s.dir, "p"), envMode+"=heir")
	heir, err := strconv.Atoi(b.says("heir"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(heir, syscall.SIGKILL) })
	if c, err := askAt(t, socket, patience); err != nil {
		t.Fatal(err)
	} else {
		_ = c.Close()
	}
	pid := b.Process.Pid
	if err := b.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = b.Wait()
	stranger := recycle(t, pid)
	if c, err := askAt(t, socket, time.Second); err == nil {
		_ = c.Close()
		t.Error("a client was served")
	}
	for _, verb := range []wire.AdminVerb{verbRestart, verbStop} {
		adminOf(t, socket, verb, func(req *wire.AdminRequest) { req.ServiceName, req.DrainDeadlineMs = demo, 100 })
	}
	testutil.WaitFor(t, "no instance is shown", func() bool {
		var v status
		reply := adminOf(t, socket, wire.AdminVerb_ADMIN_VERB_STATUS, nil)
		if err := json.Unmarshal([]byte(reply.Body), &v); err != nil {
			t.Fatal(err)
		}
		return len(v.Backends) == 0
	})
	if err := stranger.Process.Signal(syscall.Signal(0)); err != nil || stranger.Process.Pid != pid {
		t.Errorf("the process %d that has its number: %v", stranger.Process.Pid, err)
	}
	_ = stranger.Process.Kill()
	if err := stranger.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("it ended by itself: %v", err)
	}
}

// recycle starts a process that has the number of one that was.
func recycle(t *testing.T, pid int) *exec.Cmd {
	t.Helper()
	for range 100 {
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0); err != nil {
			t.Skipf("numbers can't be chosen here: %v", err)
		}
		cmd := exec.CommandContext(t.Context(), "sleep", "60")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if cmd.Process.Pid == pid {
			return cmd
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Skipf("another, maybe a thread, has got the number %d", pid)
	return nil
}

// leaveHeir gives every socket of this process to a child that outlives it, and says the
// child's pid.
func leaveHeir() error {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	cmd := exec.Command("sleep", "60")
	for _, e := range fds {
		name := "/proc/self/fd/" + e.Name()
		if target, err := os.Readlink(name); err != nil || !strings.HasPrefix(target, "socket:") {
			continue
		}
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			return err
		}
		own, err := unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(own), name)
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	say(fmt.Sprintf("heir %d", cmd.Process.Pid))
	return nil
}

// askAt is one client of the broker at socket, who has so much time.
func askAt(t *testing.T, socket string, timeout time.Duration) (net.Conn, error) {
	t.Helper()
	c, err := client.Dial(t.Context(), client.Options{Service: demo, Version: demoVersion, Broker: socket, Timeout: timeout, Eager: true})
	if err != nil {
		return nil, err
	}
	if c.Route() != client.HandedOver {
		t.Errorf("the client was %s", c.Route())
	}
	testutil.CheckConnected(t, c, c)
	return c, nil
}

package broker_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// hungFileSystem mounts a file system that answers nothing, until answer is called:
// then every question fails.
func hungFileSystem(t *testing.T) (dir string, answer func()) {
	t.Helper()
	dir = t.TempDir()
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no file system can be made here that does not answer:", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d", fuse.Fd(), os.Getuid(), os.Getgid())
	if err := unix.Mount("usher-test", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		_ = fuse.Close()
		t.Skip("no file system can be mounted here:", err)
	}
	answer = func() {
		_ = fuse.Close()
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	}
	t.Cleanup(answer)
	return dir, answer
}

// TestHungFileSystem: an executable on a file system that does not answer costs its own
// clients their time, and then they are told; others are served, and Serve ends.
func TestHungFileSystem(t *testing.T) {
	s := newSite(t, nil)
	dir, answer := hungFileSystem(t)
	s.write("hung.toml", fmt.Sprintf("binary_path = %q\n", filepath.Join(dir, "binary")))
	s.listen(demoVersion)
	raw := helloFor(t, usherClient, func(r *hello.Request) { r.Service = "hung" })
	s.SetHelloTimeout(time.Second)
	first := s.dial()
	send(t, first, raw)
	testutil.WaitFor(t, "it is under way", func() bool { n, _ := s.Pending(); return n == 1 })
	s.SetHelloTimeout(patience)
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	readHandedOver(t, c)
	checkEcho(t, c)
	readRefusal(t, first, wire.ErrorCode_ERROR_SERVICE_UNKNOWN,
		"service definition could not be loaded: its file system does not answer")
	s.SetHelloTimeout(time.Second)
	last := s.dial()
	send(t, last, raw)
	s.stop()
	if err := s.end(); err != nil {
		t.Error(err)
	}
	if _, reply := readReply(t, last); reply.Refused == nil {
		t.Errorf("at the end %v", reply)
	}
	answer()
}

// TestHungStart: a program on a file system that does not answer does not keep the broker
// from ending either.
func TestHungStart(t *testing.T) {
	s := newSite(t, func(o *options) {
		o.HelloTimeout, o.LogDir = time.Second, filepath.Join(filepath.Dir(o.Socket), "logs")
	})
	dir, answer := hungFileSystem(t)
	s.write(demo+".toml", fmt.Sprintf("binary_path = \"/bin/true\"\nper_version_binary_dir = %q\n[start]\n", filepath.Join(dir, "versions"))) // it is small, and soon read
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	readRefusal(t, c, wire.ErrorCode_ERROR_BACKEND_SPAWN_FAILED, "")
	s.stop()
	if err := s.end(); err != nil {
		t.Error(err)
	}
	answer()
}

// TestHungProcess: as TestHungStart, for a program that has a process for each connection. Its
// client is told for certain that nothing has run, and nothing does.
func TestHungProcess(t *testing.T) {
	s := newSite(t, func(o *options) {
		o.HelloTimeout, o.LogDir = time.Second, filepath.Join(filepath.Dir(o.Socket), "logs")
	})
	dir, answer := hungFileSystem(t)
	s.write(demo+".toml", fmt.Sprintf("binary_path = %q\nper_version_binary_dir = %q\n[start]\nmode = \"inetd\"\n", "/bin/true", filepath.Join(dir, "versions")))
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	readRefusal(t, c, wire.ErrorCode_ERROR_BACKEND_SPAWN_FAILED, demo+" can't be started: its file system does not answer")
	last := s.dial()
	send(t, last, helloFor(t, usherClient, nil))
	testutil.WaitFor(t, "it is about to be started", func() bool { return s.Processes() == 2 })
	s.stop()
	if err := s.end(); err != nil {
		t.Error(err)
	}
	if _, reply := readReply(t, last); reply.Refused == nil {
		t.Errorf("at the end %v", reply)
	}
	answer()
}

// holdStarts defines demo with a process for each connection, which is not started before release
// is called: its file waits for its turn to be hashed, which another file has.
func (s *site) holdStarts(t *testing.T) (release func()) {
	t.Helper()
	own := filepath.Join(s.dir, "versions", demoVersion, demo)
	cat, err := os.ReadFile("/bin/cat")
	if err != nil {
		t.Skip(err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(own), 0o700), os.WriteFile(own, cat, 0o700)); err != nil {
		t.Fatal(err)
	}
	s.write(demo+".toml", fmt.Sprintf("binary_path = \"/bin/cat\"\nper_version_binary_dir = %q\n[start]\nmode = \"inetd\"\n", filepath.Join(s.dir, "versions")))
	other := s.dial() // of a version without a file of its own: what binary_path leads to is known from now on
	send(t, other, helloFor(t, usherClient, func(r *hello.Request) { r.Version = "9.9.9" }))
	if _, reply := readReply(t, other); reply.Refused != nil {
		t.Fatalf("got %v", reply)
	}
	_ = other.Close()
	testutil.WaitFor(t, "its process has ended", func() bool { return s.Processes() == 0 })
	return hashLarge(t)
}

// TestStopOfOneThatIsStarted: a process that is just being started when its service is stopped
// ends, too.
func TestStopOfOneThatIsStarted(t *testing.T) {
	s := newSite(t, keepLogs)
	release := s.holdStarts(t)
	c := s.dial()
	_ = c.SetDeadline(time.Now().Add(patience))
	send(t, c, helloFor(t, usherClient, nil))
	testutil.WaitFor(t, "it is about to be started", func() bool { return s.Processes() == 1 })
	stopped := make(chan outcome)
	go func() { stopped <- s.control(verbStop, "", patience) }()
	testutil.WaitFor(t, "a stop waits for it", func() bool { n, _ := s.Pending(); return n == 2 })
	release()
	if o := <-stopped; !o.Done || o.results() != "ended" {
		t.Errorf("got %+v", o)
	}
	if _, reply := readReply(t, c); reply.Refused != nil {
		t.Errorf("it was not started: %v", reply)
	}
	if _, err := io.ReadAll(c); err != nil { // the end
		t.Error(err)
	}
}

package test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
	"github.com/seed-7265657e/usher/internal/world"
)

// manager is a service manager for one broker: it records what it is told, and keeps the
// descriptors that it is given.
type manager struct {
	t      *testing.T
	dir    string
	socket string // the broker's
	heard  chan notice
	kept   map[string]*os.File // by name
}

// notice is one message: its lines, and what it brought.
type notice struct {
	lines []string
	file  *os.File // nil, or the receiver's
}

const (
	// watchdog is how long the manager would wait for a sign of life.
	watchdog = 200 * time.Millisecond
	patience = 30 * time.Second
	version  = "1.2.0"
	notes    = "notes"
)

func newManager(t *testing.T) *manager {
	t.Helper()
	testutil.Leaks(t)
	dir := testutil.SocketDir(t)
	m := &manager{t: t, dir: dir, socket: filepath.Join(dir, "b.sock"), heard: make(chan notice, 1024), kept: make(map[string]*os.File)}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	go m.listen(conn)
	t.Cleanup(func() {
		_ = conn.Close()
		for n := range m.heard { // until listen has ended
			if n.file != nil {
				_ = n.file.Close()
			}
		}
		for _, f := range m.kept {
			_ = f.Close()
		}
	})
	return m
}

// listen receives until the manager's socket is closed.
func (m *manager) listen(conn *net.UnixConn) {
	defer close(m.heard)
	buf := make([]byte, 4096)
	for {
		msg, err := sock.Receive(conn, buf)
		if err != nil {
			return
		}
		n := notice{lines: strings.Split(string(buf[:msg.N]), "\n")}
		if msg.FDs.Len() > 0 {
			n.file, _ = msg.FDs.Take(0).File("kept")
		}
		msg.FDs.Close()
		m.heard <- n
	}
}

// await waits for a message with a line, and does on the way what each of them asks for.
func (m *manager) await(line string) {
	m.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case n, ok := <-m.heard:
			if !ok {
				m.t.Fatal("the manager hears nothing any more")
			}
			m.obey(n)
			if slices.Contains(n.lines, line) {
				return
			}
		case <-timeout:
			m.t.Fatalf("the manager has not been told %s", line)
		}
	}
}

// silent fails the test unless nothing is heard for a while, after what was under way.
func (m *manager) silent(a time.Duration) {
	m.t.Helper()
	for range 10 {
		select {
		case <-m.heard:
		case <-time.After(a):
			return
		}
	}
	m.t.Fatal("it goes on saying that it lives")
}

func (m *manager) obey(n notice) {
	m.t.Helper()
	name := ""
	for _, line := range n.lines {
		if v, ok := strings.CutPrefix(line, "FDNAME="); ok {
			name = v
		}
	}
	switch {
	case slices.Contains(n.lines, "FDSTORE=1"):
		if n.file == nil || m.kept[name] != nil {
			m.t.Fatalf("asked to keep %v under %q, beside %v", n.file, name, m.kept)
		}
		m.kept[name] = n.file
	case slices.Contains(n.lines, "FDSTOREREMOVE=1") && m.kept[name] != nil:
		_ = m.kept[name].Close()
		delete(m.kept, name)
	}
}

// start starts a broker, and passes what is kept and passed.
func (m *manager) start(passed ...*os.File) *managedBroker {
	m.t.Helper()
	names := slices.Sorted(maps.Keys(m.kept))
	files := make([]*os.File, 0, len(names)+len(passed))
	for _, name := range names {
		files = append(files, m.kept[name])
	}
	for range passed {
		names = append(names, "usher.socket")
	}
	files = append(files, passed...)
	// The variables name the process that they are for.
	cmd := exec.Command("sh", "-c", `export LISTEN_PID=$$ WATCHDOG_PID=$$; exec usher serve --log-format text --socket "$0"`, m.socket)
	cmd.ExtraFiles = files
	cmd.Env = append(os.Environ(),
		"GORACE=atexit_sleep_ms=0",
		"NOTIFY_SOCKET="+filepath.Join(m.dir, "notify"), fmt.Sprintf("WATCHDOG_USEC=%d", watchdog.Microseconds()),
		fmt.Sprintf("LISTEN_FDS=%d", len(files)), "LISTEN_FDNAMES="+strings.Join(names, ":"),
		"XDG_RUNTIME_DIR="+m.dir, "RUNNING_PROCESS_SERVICE_DEF_DIR="+filepath.Join(m.dir, "services"))
	b := &managedBroker{Cmd: cmd, t: m.t, log: filepath.Join(m.dir, "log")}
	log, err := os.Create(b.log)
	if err != nil {
		m.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(b.kill)
	return b
}

// managedBroker is a broker process.
type managedBroker struct {
	*exec.Cmd
	t   *testing.T
	log string
}

func (b *managedBroker) signal(s os.Signal) {
	b.t.Helper()
	if err := b.Process.Signal(s); err != nil {
		b.t.Fatal(err)
	}
}

func (b *managedBroker) kill() {
	if b.ProcessState == nil {
		_ = b.Process.Kill()
		_ = b.Wait()
	}
}

// stop has it drain.
func (b *managedBroker) stop() {
	b.t.Helper()
	b.signal(syscall.SIGTERM)
	if err := b.Wait(); err != nil {
		b.t.Errorf("the broker: %v\n%s", err, read(b.t, b.log))
	}
}

// startBackend starts a backend that registers with the manager's brokers.
func (m *manager) startBackend() {
	m.t.Helper()
	path, err := exec.LookPath("backend")
	if err != nil {
		m.t.Fatal(err)
	}
	_, err = service.Save(filepath.Join(m.dir, "services"), &wire.ServiceDefinition{
		ServiceName: notes, BinaryPath: path, Isolation: wire.BrokerIsolation_SHARED_BROKER,
	}, service.TOML)
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := exec.Command(path, notes, version)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "XDG_RUNTIME_DIR="+m.dir, "RUNNING_PROCESS_BROKER_V1_SOCKET="+m.socket)
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// status asks the broker, once.
func (m *manager) status() *world.Status {
	m.t.Helper()
	s, err := world.AskStatus(context.Background(), m.socket)
	if err != nil {
		m.t.Fatal(err)
	}
	return s
}

// ask has a client ask a question through the broker; the answer comes when it does.
func (m *manager) ask() (answer <-chan string) {
	said := make(chan string, 1)
	go func() {
		c, err := client.Dial(context.Background(), client.Options{Service: notes, Version: version, Broker: m.socket, Timeout: patience})
		if err != nil {
			said <- err.Error()
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "hello")
		_ = c.CloseWrite()
		text, _ := io.ReadAll(c)
		said <- string(text)
	}()
	return said
}

const handedOver = notes + "@" + version + " handed over: hello\n"

// TestServiceManagerIsTold: that the broker serves, once it does; that it lives, for as
// long as its loop turns; and that it ends.
func TestServiceManagerIsTold(t *testing.T) {
	m := newManager(t)
	b := m.start()
	m.await("READY=1")
	if s := m.status(); s.BrokerPID != b.Process.Pid {
		t.Errorf("broker %d serves, not %d", s.BrokerPID, b.Process.Pid)
	}
	for range 3 {
		m.await("WATCHDOG=1")
	}

	b.signal(syscall.SIGSTOP)
	m.silent(3 * watchdog)
	b.signal(syscall.SIGCONT)
	m.await("WATCHDOG=1")

	b.stop()
	m.await("STOPPING=1")
	m.await("FDSTOREREMOVE=1")
	if len(m.kept) != 0 {
		t.Errorf("the manager keeps %v", m.kept)
	}
	if _, err := os.Lstat(m.socket); err == nil {
		t.Error("the socket's name is still there")
	}
}

// TestSocketOutlivesACrash: the manager keeps the socket, so whoever connects between two
// brokers is served by the second.
func TestSocketOutlivesACrash(t *testing.T) {
	m := newManager(t)
	m.startBackend()
	first := m.start()
	m.await("FDSTORE=1")
	m.await("READY=1")
	if got := <-m.ask(); got != handedOver {
		t.Fatalf("before the crash: %q", got)
	}
	first.kill()

	between, err := net.Dial("unix", m.socket)
	if err != nil {
		t.Fatalf("between two brokers: %v", err)
	}
	defer between.Close()
	answer := m.ask()
	// What else is kept, of a time when another program did it, is nobody's.
	stray, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	m.kept["other"] = stray
	second := m.start()
	m.await("READY=1")
	if got := <-answer; got != handedOver {
		t.Errorf("between two brokers a client got %q", got)
	}
	if len(m.kept) != 2 {
		t.Errorf("the manager keeps %v", m.kept)
	}
	if got := read(t, second.log); !strings.Contains(got, "name=other") {
		t.Errorf("the log says nothing of the stray descriptor:\n%s", got)
	}
	second.stop()
	m.await("FDSTOREREMOVE=1")
	if _, err := os.Lstat(m.socket); err == nil {
		t.Error("the socket's name is still there")
	}
}

// TestKeptSocketWithoutAName: a socket that nobody can reach is given up for a new one.
func TestKeptSocketWithoutAName(t *testing.T) {
	m := newManager(t)
	first := m.start()
	m.await("READY=1")
	first.kill()
	if err := os.Remove(m.socket); err != nil {
		t.Fatal(err)
	}
	second := m.start()
	m.await("FDSTOREREMOVE=1")
	m.await("FDSTORE=1")
	m.await("READY=1")
	m.status()
	second.kill()
	third := m.start()
	m.await("READY=1")
	m.status()
	third.stop()
}

// TestPassedSocket: one that a .socket unit made is the manager's, and not kept twice.
func TestPassedSocket(t *testing.T) {
	m := newManager(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: m.socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	file, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for range 2 {
		b := m.start(file)
		m.await("READY=1")
		m.status()
		b.stop()
		m.await("STOPPING=1")
		if _, err := os.Lstat(m.socket); err != nil || len(m.kept) != 0 {
			t.Errorf("the name: %v; the manager keeps %v", err, m.kept)
		}
	}

	if err := os.Remove(m.socket); err != nil {
		t.Fatal(err)
	}
	b := m.start(file)
	if err := b.Wait(); err == nil {
		t.Error("a socket without a name is served")
	}
	if got := read(t, b.log); !strings.Contains(got, "systemctl --user restart") {
		t.Errorf("it says\n%s", got)
	}
}

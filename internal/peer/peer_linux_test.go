package peer_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
)

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func() error{"connect and stay": connectAndStay, "watch refused": watchRefused, "own executable": ownExecutable})
}

// connectAndStay connects to the path in the first line of standard input, says
// so, and lives until standard input ends. An empty line means no connection.
func connectAndStay() error {
	in := bufio.NewReader(os.Stdin)
	path, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	if path = strings.TrimSpace(path); path != "" {
		c, err := net.Dial("unix", path)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
	}
	if _, err := os.Stdout.WriteString("ready\n"); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	return err
}

// child is a helper process.
type child struct {
	*exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Reader
}

// end lets the child exit and reaps it.
func (c *child) end(t *testing.T) {
	t.Helper()
	_ = c.stdin.Close()
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

// start runs cmd as a child that connects to path and waits until it has.
func start(t *testing.T, cmd *exec.Cmd, path string) *child {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(stdin, path+"\n"); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd, stdin, bufio.NewReader(stdout)}
	c.says(t, "ready")
	return c
}

func (c *child) says(t *testing.T, word string) {
	t.Helper()
	if line, err := c.lines.ReadString('\n'); line != word+"\n" {
		t.Fatalf("the child said %q, %v; want %q", line, err, word)
	}
}

// connected runs a child that has connected to the socket that is returned.
func connected(t *testing.T) (*child, *net.UnixConn) {
	t.Helper()
	path := testutil.SocketPath(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c := start(t, testutil.Helper(t, "connect and stay"), path)
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = accepted.Close() })
	return c, accepted.(*net.UnixConn)
}

func open(t *testing.T, pid int) *peer.Process {
	t.Helper()
	p, err := peer.OpenPID(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func TestOfThisProcess(t *testing.T) {
	testutil.Leaks(t)
	dialled, accepted := testutil.UnixPair(t, testutil.SocketPath(t))
	left, _ := testutil.SocketPair(t)
	for name, c := range map[string]*net.UnixConn{"dialled": dialled, "accepted": accepted, "pair": left} {
		cred, err := sock.PeerOf(c)
		if err != nil || cred != (sock.Credentials{UID: uint32(os.Getuid()), PID: os.Getpid()}) {
			t.Errorf("%s: got %+v, %v", name, cred, err)
		}
		if pid := peer.TrustedPID(c); pid != trusted(os.Getpid()) {
			t.Errorf("%s: trusted pid %d", name, pid)
		}
	}
}

// trusted is what TrustedPID says of a process that lives.
func trusted(pid int) int {
	if testutil.Portable {
		return 0 // nothing tells
	}
	return pid
}

func TestOfNoSocket(t *testing.T) {
	testutil.Leaks(t)
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if cred, err := sock.PeerOf(f); !errors.Is(err, unix.ENOTSOCK) {
		t.Errorf("of the file: got %+v, %v", cred, err)
	}
	if _, err := peer.OpenProcess(f); !errors.Is(err, unix.ENOTSOCK) {
		t.Errorf("got %v", err)
	}
	if pid := peer.TrustedPID(f); pid != 0 {
		t.Errorf("trusted pid %d", pid)
	}
}

func TestOfClosedConn(t *testing.T) {
	testutil.Leaks(t)
	left, _ := testutil.SocketPair(t)
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	if cred, err := sock.PeerOf(left); !errors.Is(err, net.ErrClosed) || cred != (sock.Credentials{}) {
		t.Errorf("got %+v, %v", cred, err)
	}
}

// TestDeadConnector: the socket remembers a pid that may mean somebody else by
// now; it is not trusted.
func TestDeadConnector(t *testing.T) {
	testutil.Leaks(t)
	c, conn := connected(t)
	if pid := peer.TrustedPID(conn); pid != trusted(c.Process.Pid) {
		t.Errorf("alive: trusted pid %d, want %d", pid, c.Process.Pid)
	}
	c.end(t)
	if cred, err := sock.PeerOf(conn); err != nil || cred.PID != c.Process.Pid {
		t.Errorf("dead: got %+v, %v", cred, err)
	}
	if pid := peer.TrustedPID(conn); pid != 0 {
		t.Errorf("dead: trusted pid %d", pid)
	}
	if p, err := peer.OpenProcess(conn); err == nil {
		if p.Alive() {
			t.Error("dead, but alive")
		}
		p.Close()
	}
}

func TestProcessLifeAndDeath(t *testing.T) {
	testutil.Leaks(t)
	c, conn := connected(t)
	p, err := peer.OpenProcess(conn)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.PID() != c.Process.Pid || !p.Alive() {
		t.Errorf("pid %d, alive %v; want %d", p.PID(), p.Alive(), c.Process.Pid)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if path, _, err := p.Executable(); path != exe || err != nil {
		t.Errorf("runs %s, %v; want %s", path, err, exe)
	}
	// A Wait given up says nothing about the process and spoils no other.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := p.Wait(ctx); err != context.Canceled {
		t.Errorf("given up: got %v", err)
	}
	var waits sync.WaitGroup
	for range 3 {
		waits.Go(func() {
			if err := p.Wait(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	c.end(t)
	waits.Wait()
	if p.Alive() {
		t.Error("alive after its end")
	}
	if _, _, err := p.Executable(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the dead run: %v", err)
	}
	if _, err := peer.OpenPID(c.Process.Pid); !errors.Is(err, unix.ESRCH) {
		t.Errorf("the dead can be opened: %v", err)
	}
}

// TestZombieIsNotAlive: a process has ended when it exits, not when its parent
// reaps it.
func TestZombieIsNotAlive(t *testing.T) {
	testutil.Leaks(t)
	c := start(t, testutil.Helper(t, "connect and stay"), "")
	p := open(t, c.Process.Pid)
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(context.Background()); err != nil || p.Alive() {
		t.Errorf("waited: %v; alive %v", err, p.Alive())
	}
}

// TestOpenChild: a child that has ended keeps its pid, and is known as ended.
func TestOpenChild(t *testing.T) {
	testutil.Leaks(t)
	c := start(t, testutil.Helper(t, "connect and stay"), "")
	before := open(t, c.Process.Pid)
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := before.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	p, err := peer.OpenChild(c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(context.Background()); err != nil || p.Alive() || p.PID() != c.Process.Pid {
		t.Errorf("waited: %v; alive %v", err, p.Alive())
	}
	p.Close()
	if p.Alive() {
		t.Error("alive after Close")
	}
}

func TestCloseEndsWait(t *testing.T) {
	testutil.Leaks(t)
	p := open(t, os.Getpid())
	ended := make(chan error)
	for range 2 {
		go func() { ended <- p.Wait(context.Background()) }()
	}
	p.Close()
	p.Close()
	for range 2 {
		if err := <-ended; err != os.ErrClosed {
			t.Errorf("got %v", err)
		}
	}
	if err := p.Wait(context.Background()); err != os.ErrClosed || p.Alive() {
		t.Errorf("after Close: %v", err)
	}
}

// TestExecutableSurvivesReplacement: the link opens the file that runs, not the
// one that has its path by now; where there is no such link, Confirm finds out.
func TestExecutableSurvivesReplacement(t *testing.T) {
	testutil.Leaks(t)
	binary, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "old")
	if err := os.WriteFile(path, binary, 0o700); err != nil {
		t.Fatal(err)
	}
	original, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	cmd := testutil.Helper(t, "connect and stay")
	cmd.Path = path
	c := start(t, cmd, "")
	p := open(t, c.Process.Pid)
	if _, _, err := p.Executable(); err != nil || p.Confirm(path) != nil {
		t.Errorf("before: %v, %v", err, p.Confirm(path))
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("new"), 0o700); err != nil {
		t.Fatal(err)
	}
	remembered, link, err := p.Executable()
	if err != nil || remembered == path {
		t.Errorf("runs %s, %v", remembered, err)
	}
	if testutil.Portable {
		if p.Confirm(path) == nil {
			t.Error("what is at the path by now is taken for what runs")
		}
		c.end(t)
		return
	}
	if running, err := os.Stat(link); err != nil || !os.SameFile(running, original) {
		t.Errorf("the link leads to another file: %v", err)
	}
	c.end(t)
	if err := p.Confirm(path); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("after its end: %v", err)
	}
}

// ownExecutable is a helper process: it looks up what it runs itself.
func ownExecutable() error {
	p, err := peer.OpenPID(os.Getpid())
	if err != nil {
		return err
	}
	defer p.Close()
	path, _, err := p.Executable()
	if err == nil {
		err = errors.New("it is " + path)
	}
	return err
}

// TestExecutableInAnotherNamespacesProc: where /proc is that of another pid namespace, the
// number leads to another process there, and so nobody is taken for the one that has it.
func TestExecutableInAnotherNamespacesProc(t *testing.T) {
	namespace := []string{"unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"}
	if out, err := exec.Command(namespace[0], append(namespace[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("no pid namespace can be made here: %v: %s", err, out)
	}
	cmd := testutil.Helper(t, "own executable")
	inside := exec.Command(namespace[0], append(namespace[1:], cmd.Args...)...)
	inside.Env = cmd.Env
	if out, err := inside.CombinedOutput(); err == nil || !strings.Contains(string(out), "/proc is that of another pid namespace") {
		t.Errorf("%v: %s", err, out)
	}
}

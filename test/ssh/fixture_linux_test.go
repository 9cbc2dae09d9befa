package ssh

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/internal/cli"
	"github.com/seed-7265657e/usher/internal/launch"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestMain makes this binary usher, or a backend, where it is called so.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "usher":
		os.Exit(cli.Main())
	case "sshd-backend":
		fmt.Fprintln(os.Stderr, becomeSSHD())
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const (
	patience = time.Minute // what a test waits for takes far less
	version  = "1.0.0"
	hostName = "other" // what ssh's configuration knows
)

// place has a broker, keys, and an ssh of its own in PATH.
type place struct {
	dir, socket, usher, config string
	sshd                       []string
	stopBroker                 func()
}

// program is the path of a real program, or the test is skipped.
func program(t *testing.T, name, packageName string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		t.Skipf("%s is not installed: its package is %s", name, packageName)
	}
	return path
}

func newPlace(t *testing.T) *place {
	t.Helper()
	ssh := program(t, "ssh", "openssh-client")
	keygen := program(t, "ssh-keygen", "openssh-client")
	sshd := program(t, "sshd", "openssh-server")
	if os.Geteuid() == 0 {
		if _, err := os.Stat("/run/sshd"); err != nil {
			t.Skipf("sshd of root needs its directory: %v", err)
		}
	}
	dir := testutil.SocketDir(t)
	p := &place{dir: dir, socket: filepath.Join(dir, "b"), usher: filepath.Join(dir, "usher"), config: filepath.Join(dir, "config")}
	self, err := os.Executable()
	must(t, err)
	must(t, os.Symlink(self, p.usher))
	for _, key := range []string{"host", "user"} {
		if out, err := exec.Command(keygen, "-q", "-t", "ed25519", "-N", "", "-f", p.path(key)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	me, err := user.Current()
	must(t, err)
	p.sshd = []string{
		sshd, "-i", "-e", "-f", "/dev/null", "-o", "HostKey=" + p.path("host"), "-o", "AuthorizedKeysFile=" + p.path("user.pub"),
		"-o", "StrictModes=no", "-o", "UsePAM=no", "-o", "LogLevel=ERROR",
	}
	host, err := os.ReadFile(p.path("host.pub"))
	must(t, err)
	must(t, os.WriteFile(p.path("known"), []byte("* "+string(host)), 0o600))
	must(t, os.WriteFile(p.config, []byte(fmt.Sprintf(`
UserKnownHostsFile %s
LogLevel ERROR
BatchMode yes
User %s
IdentitiesOnly yes
Host %s unknown
  ProxyCommand %s
Host unknown
  PubkeyAuthentication no
Host down
  ProxyCommand sh -c "echo nobody is here >&2; exit 1"
Host *
  IdentityFile %s
`, p.path("known"), me.Username, hostName, strings.Join(p.sshd, " "), p.path("user"))), 0o600))
	bin := p.path("bin")
	must(t, os.Mkdir(bin, 0o700))
	// ssh takes its configuration from the user's home, whatever HOME says.
	must(t, os.WriteFile(filepath.Join(bin, "ssh"), []byte("#!/bin/sh\nexec "+ssh+" -F "+p.config+" \"$@\"\n"), 0o700))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("GORACE", "atexit_sleep_ms=0") // else every usher of a -race run ends a second late
	for _, name := range []string{"echo", "sshd", "silent"} {
		must(t, os.WriteFile(p.path(name+".toml"), []byte(fmt.Sprintf("binary_path = %q\n", self)), 0o600))
	}
	b, err := broker.Listen(broker.Options{Socket: p.socket, DefinitionDir: dir, DefinitionSource: "test", Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	p.stopBroker = testutil.Background(t, b.Serve)
	return p
}

func (p *place) path(name string) string { return filepath.Join(p.dir, name) }

// url is the place's broker, seen from another host.
func (p *place) url(host string) string {
	return "ssh://" + host + p.socket + "?usher=" + p.usher
}

// serve serves a service in this process until the test's end.
func (p *place) serve(t *testing.T, service string, handle func(net.Conn)) {
	t.Helper()
	ln, err := backend.Listen(t.Context(), backend.Options{Service: service, Version: version, Broker: p.socket, Pipe: p.path(service)})
	must(t, err)
	testutil.AcceptEach(t, ln, handle)
	must(t, ln.WaitRegistered(bounded(t)))
}

// echo answers with what it reads, in capitals, behind a greeting.
func echo(c net.Conn) {
	_, _ = io.WriteString(c, "welcome ")
	text, _ := io.ReadAll(c)
	_, _ = io.WriteString(c, strings.ToUpper(string(text)))
}

// becomeSSHD is a backend that accepts one connection and becomes its sshd.
//
//	sshd-backend BROKER PIPE SSHD [ARGUMENT...]
func becomeSSHD() error {
	ln, err := backend.Listen(context.Background(), backend.Options{
		Service: "sshd", Version: version, Broker: os.Args[1], Pipe: os.Args[2], Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	c, err := ln.Accept()
	if err != nil {
		return err
	}
	_, err = launch.Become(os.Args[3], os.Args[3:], os.Environ(), c.(launch.Connection), launch.Stdio)
	return err
}

// startSSHD starts a backend of the service sshd, which serves one connection.
func (p *place) startSSHD(t *testing.T) {
	t.Helper()
	path := p.path("sshd-backend")
	if self, err := os.Executable(); err == nil {
		_ = os.Symlink(self, path) // fails where it is there already
	}
	cmd := exec.CommandContext(bounded(t), path, append([]string{p.socket, p.path("sshd")}, p.sshd...)...)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Cancel(); _ = cmd.Wait() })
	testutil.WaitFor(t, "the backend is registered", func() bool {
		_, out, _ := p.run(t, "", p.usher, "status", "--socket", p.socket)
		return strings.Contains(out, "running")
	})
}

// run runs a program of the place's and returns its exit code and what it said.
func (p *place) run(t *testing.T, stdin string, words ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(bounded(t), words[0], words[1:]...)
	var out, errs strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// notShort leaves out what starts many an ssh, and of which the race detector sees little.
func notShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts many processes")
	}
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// children are the children of a process that have not been reaped.
func children(t *testing.T, pid string) (pids []string) {
	t.Helper()
	lists, err := filepath.Glob("/proc/" + pid + "/task/*/children")
	must(t, err)
	for _, list := range lists {
		text, _ := os.ReadFile(list) // fails where the thread has ended
		pids = append(pids, strings.Fields(string(text))...)
	}
	return pids
}

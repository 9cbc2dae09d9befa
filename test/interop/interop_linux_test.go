package interop

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
	"github.com/seed-7265657e/usher/internal/world"
)

const (
	version = "1.4.0"
	// built names the directory that .ci/interop has filled.
	built = "USHER_INTEROP_BIN"
)

// allowRoot is for the reference's command line, which refuses to run as root without it.
const allowRoot = "RUNNING_PROCESS_BROKER_ALLOW_PRIVILEGED=1"

// The services, named for who serves them.
const (
	goService   = "go-lines"
	rustService = "rust-lines"
)

// launchedPipe is set in what a v1 broker starts.
const launchedPipe = "RUNNING_PROCESS_BROKER_V1_BACKEND_PIPE"

func TestMain(m *testing.M) {
	if os.Getenv(launchedPipe) == "" {
		os.Exit(m.Run())
	}
	if err := beLaunched(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// beLaunched serves lines as the broker has it that has started this process, until that
// is killed.
func beLaunched() error {
	ln, err := backend.Listen(context.Background(), backend.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = c.Close() }()
			answerLines(c)
		}()
	}
}

func answerLines(c net.Conn) {
	for in := bufio.NewScanner(c); in.Scan(); {
		_, _ = fmt.Fprintf(c, "%s done\n", in.Text())
	}
}

// fixture is a World with a definition of both services.
type fixture struct {
	*world.World
	t    *testing.T
	peer string // the crate in roles
	cli  string // its broker
}

func newFixture(t *testing.T, labels map[string]string) *fixture {
	t.Helper()
	bin := os.Getenv(built)
	if bin == "" {
		t.Skip("no v1 peers: .ci/interop builds them")
	}
	f := &fixture{t: t, peer: filepath.Join(bin, "peer"), cli: filepath.Join(bin, "running-process-broker-v1")}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if f.World, err = world.New(context.Background(), goService, exe); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := service.Remove(f.Definitions(), goService); err != nil {
		t.Fatal(err)
	}
	for name, binary := range map[string]string{goService: exe, rustService: f.peer} {
		// The binary form is the one that the reference's doctor reads.
		_, err = service.Save(f.Definitions(), &wire.ServiceDefinition{
			ServiceName: name, BinaryPath: binary, PerVersionBinaryDir: filepath.Dir(binary),
			Isolation: wire.BrokerIsolation_SHARED_BROKER, Labels: labels,
		}, service.Binary)
		if err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// start runs a peer in a role.
func (f *fixture) start(args ...string) *world.Process {
	f.t.Helper()
	p, err := f.Start(world.Command{Name: args[0], Args: append([]string{f.peer}, args...), Foreign: true})
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

// rustBackend starts one, and says where it is.
func (f *fixture) rustBackend() broker.StaticBackend {
	b := broker.StaticBackend{Service: rustService, Version: version, Pipe: f.Path("rust.sock"), HandoffEndpoint: f.Path("rust-handoff.sock")}
	f.start("backend", b.Pipe, b.HandoffEndpoint)
	f.listens(b.Pipe)
	return b
}

// goBackend starts one that takes v1 handoffs too, and answers lines.
func (f *fixture) goBackend() *backend.Listener {
	f.t.Helper()
	ln, err := backend.Listen(f.t.Context(), backend.Options{
		Service: goService, Version: version, Broker: f.Socket(), Pipe: f.Path("go.sock"), HandoffEndpoint: f.Path("go-handoff.sock"),
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	testutil.AcceptEach(f.t, ln, answerLines)
	return ln
}

// usher runs a broker of ours at a path.
func (f *fixture) usher(socket string, static ...broker.StaticBackend) {
	f.t.Helper()
	b, err := broker.Listen(broker.Options{
		Socket: socket, DefinitionDir: f.Definitions(), Static: static, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	testutil.Background(f.t, b.Serve)
}

// listens waits until somebody accepts at a path.
func (f *fixture) listens(path string) {
	f.t.Helper()
	testutil.WaitFor(f.t, path+" is served", func() bool {
		c, err := net.Dial("unix", path)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// answers waits until a broker does. The crate's ends at a connection that says nothing, so
// listens will not do.
func (f *fixture) answers() {
	f.t.Helper()
	testutil.WaitFor(f.t, "a broker answers", func() bool {
		_, code := f.run(f.cli, "--socket", f.Socket(), "healthz")
		return code == 0
	})
}

// run runs a program of the reference to its end.
func (f *fixture) run(program string, args ...string) (out string, code int) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Dir = append(slices.Clone(f.Env), allowRoot), f.Dir
	content, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		f.t.Fatal(err)
	}
	return string(content), cmd.ProcessState.ExitCode()
}

// TestRustClient: stock client, usher, backends of both kinds. A stock client is handed
// over where the service's label asks for it and the client waits for that.
func TestRustClient(t *testing.T) {
	for _, enabled := range []bool{false, true} {
		t.Run(fmt.Sprintf("handoff.enabled=%t", enabled), func(t *testing.T) {
			f := newFixture(t, map[string]string{"handoff.enabled": fmt.Sprint(enabled)})
			f.usher(f.Socket(), f.rustBackend())
			if err := f.goBackend().WaitRegistered(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{goService, rustService} {
				for _, how := range []string{"adopt", "reconnect"} {
					route := "BrokerNegotiated"
					if enabled && how == "adopt" {
						route = "HandlePassed"
					}
					line := name + "-" + how
					out, code := f.run(f.peer, "client", f.Socket(), name, version, how, line)
					if want := fmt.Sprintf("%s %s done\n", route, line); code != 0 || out != want {
						t.Errorf("%s, %s: exit code %d, %q, want %q", name, how, code, out, want)
					}
				}
			}
		})
	}
}

// TestFrozenRustBackend: a stock client whose backend is frozen gives up on the handoff by
// itself, after 2 s, and so does usher. Its request runs once, after the thaw.
func TestFrozenRustBackend(t *testing.T) {
	f := newFixture(t, map[string]string{"handoff.enabled": "true"})
	at := broker.StaticBackend{Service: rustService, Version: version, Pipe: f.Path("rust.sock"), HandoffEndpoint: f.Path("rust-handoff.sock")}
	frozen := f.start("backend", at.Pipe, at.HandoffEndpoint)
	f.listens(at.Pipe)
	f.usher(f.Socket(), at)
	if out, code := f.run(f.peer, "client", f.Socket(), rustService, version, "adopt", "warm"); code != 0 {
		t.Fatal(out)
	}
	if err := frozen.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 1)
	began := time.Now()
	go func() {
		out, _ := f.run(f.peer, "client", f.Socket(), rustService, version, "adopt", "line")
		asked <- out
	}()
	testutil.WaitFor(t, "usher has given up", func() bool {
		s, err := world.AskStatus(t.Context(), f.Socket())
		return err == nil && s.Handoffs.Unknown == 1
	})
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("that took %v", took)
	}
	if err := frozen.Thaw(); err != nil {
		t.Fatal(err)
	}
	if out := <-asked; out != "BrokerNegotiated line done\n" {
		t.Error(out)
	}
}

// TestRustBroker: our client, the crate's broker, backends of both kinds.
func TestRustBroker(t *testing.T) {
	for _, handoff := range []bool{false, true} {
		for _, name := range []string{goService, rustService} {
			t.Run(fmt.Sprintf("%s, handoff %t", name, handoff), func(t *testing.T) {
				f := newFixture(t, nil)
				at := broker.StaticBackend{Service: goService, Pipe: f.Path("go.sock"), HandoffEndpoint: f.Path("go-handoff.sock")}
				if name == goService {
					f.goBackend()
				} else {
					at = f.rustBackend()
				}
				endpoint, route := "-", client.Reconnected
				if handoff {
					endpoint, route = at.HandoffEndpoint, client.HandedOver
				}
				f.start("broker", f.Socket(), name, version, at.Pipe, endpoint)
				f.answers()
				opts := client.Options{Service: name, Version: version, Broker: f.Socket()}
				for _, early := range []bool{false, true} {
					if early { // which v1 does not have: it goes to the pipe
						route = client.Reconnected
					}
					conn, err := dial(opts, early)
					if err != nil {
						t.Fatal(err)
					}
					line, err := bufio.NewReader(conn).ReadString('\n')
					if err != nil || line != "hello done\n" || conn.Route() != route {
						t.Errorf("early data %t: %q by %s, %v; want %s", early, line, conn.Route(), err, route)
					}
					_ = conn.Close()
				}
			})
		}
	}
}

// TestRustBrokerLaunches has the reference's broker start backends of both kinds. They
// have sessions of their own, and outlive it: the test ends them.
func TestRustBrokerLaunches(t *testing.T) {
	f := newFixture(t, nil)
	b, err := f.Start(world.Command{
		Name: "launching", Args: []string{f.cli, "--serve-launch", f.Socket()}, Env: []string{allowRoot}, Foreign: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.Kill()
		if err := f.EndDetached(); err != nil {
			t.Error(err)
		}
	})
	f.answers()
	for _, name := range []string{goService, rustService} {
		conn, err := dial(client.Options{Service: name, Version: version, Broker: f.Socket()}, false)
		if err != nil {
			t.Error(name, err)
			continue
		}
		if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != "hello done\n" {
			t.Errorf("%s: %q, %v", name, line, err)
		}
		_ = conn.Close()
	}
}

func dial(opts client.Options, early bool) (*client.Conn, error) {
	return dialWith(opts, "hello\n", early)
}

func dialWith(opts client.Options, request string, early bool) (*client.Conn, error) {
	if early {
		return client.DialWith(context.Background(), opts, []byte(request))
	}
	conn, err := client.Dial(context.Background(), opts)
	if err == nil {
		_, err = io.WriteString(conn, request)
	}
	return conn, err
}

// TestReferenceCommands has the reference's command line ask usher.
func TestReferenceCommands(t *testing.T) {
	f := newFixture(t, nil)
	t.Setenv("XDG_RUNTIME_DIR", f.Dir)
	socket, err := endpoint.Shared().SocketPath() // where its doctor looks
	if err != nil {
		t.Fatal(err)
	}
	f.usher(socket, f.rustBackend())
	if out, code := f.run(f.peer, "client", socket, rustService, version, "reconnect", "x"); code != 0 {
		t.Fatalf("no backend yet: %s", out)
	}
	for _, c := range []struct {
		args []string
		says []string
	}{
		{[]string{"status"}, []string{"broker_instance: shared"}},
		{[]string{"status", "--json"}, []string{`"broker_instance"`, rustService, version}},
		{[]string{"list-instances"}, []string{`"shared"`}},
		{[]string{"healthz"}, []string{"ok"}},
		{[]string{"readyz"}, []string{"ready"}},
		{[]string{"backend-health", rustService}, []string{rustService}},
		{[]string{"config"}, []string{f.Definitions()}},
		{[]string{"dump"}, []string{rustService}},
		{[]string{"diagnose", "--output", f.Path("bundle.tar.gz")}, nil},
		{[]string{"metrics"}, []string{"# TYPE ", "# EOF"}},
		{[]string{"doctor"}, []string{"PASS  broker:endpoint", "servicedef:" + rustService + ".servicedef", "0 fail"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			out, code := f.run(f.cli, append([]string{"--socket", socket}, c.args...)...)
			if code != 0 {
				t.Errorf("exit code %d", code)
			}
			for _, text := range c.says {
				if !strings.Contains(out, text) {
					t.Errorf("it does not say %q", text)
				}
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
}

package broker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// What the vectors ask for, and what most tests define.
const (
	demo        = "demo-svc"
	demoVersion = "1.4.0"
)

// patience bounds every wait of a test for something that must happen. It is long, for a busy
// machine; who needs not wait must not.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func() error{
		"backend": backendProcess,
		"client":  clientProcess,
		"broker":  brokerProcess,
		"adopter": adopterProcess,
		"foreign": foreignProcess,
		"started": startedProcess,
		"inetd":   inetdProcess,
		"stdio":   stdioProcess,
		"listens": listeningProcess,
		"passed":  passedProcess,

		"v1 instance": v1Instance,
		"v1 handoffs": v1Handoffs,
		"successor":   successorProcess,

		"odd successor": oddSuccessor,

		"registrant":           registrantProcess,
		"refused broker":       refusedBroker,
		"refused backend":      refusedBackend,
		"broker without flock": brokerWithoutFlock,
	})
}

type options = broker.Options

// site is a broker that serves in this process, with a directory for its socket,
// its definitions and the pipes of backends.
type site struct {
	*broker.Broker
	tb        testing.TB
	dir, defs string

	ctx   context.Context // Serve's
	stop  context.CancelFunc
	ended chan error // Serve's result, once

	// later ends backends of this process behind the broker, which would wait for
	// the death of one that leaves it while it serves.
	later []func()
}

// newSite serves until the test's end, with demo defined as this very binary.
// It calls testutil.Leaks, so it comes first in a test.
func newSite(tb testing.TB, change func(*options)) *site {
	tb.Helper()
	s := unserved(tb, change)
	s.serve()
	return s
}

// unserved is a site whose broker listens, and serves once the test calls serve.
func unserved(tb testing.TB, change func(*options)) *site {
	tb.Helper()
	testutil.Leaks(tb)
	s := &site{tb: tb, dir: testutil.SocketDir(tb), ended: make(chan error, 1)}
	s.defs = filepath.Join(s.dir, "defs")
	if err := os.Mkdir(s.defs, 0o700); err != nil {
		tb.Fatal(err)
	}
	s.define(demo, "")
	opts := options{
		Socket:        s.Socket(),
		DefinitionDir: s.defs,
		BackendWait:   time.Nanosecond, // who tests refusals does not wait for them
		AckDeadline:   time.Minute,     // nor does who acknowledges by hand have to hurry
		DrainTimeout:  patience,
		Logger:        slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&opts)
	}
	b, err := broker.Listen(opts)
	if err != nil {
		tb.Fatal(err)
	}
	s.Broker = b
	s.ctx, s.stop = context.WithCancel(context.Background())
	tb.Cleanup(s.close)
	return s
}

// Socket is where the site's broker listens, in this process or another.
func (s *site) Socket() string { return filepath.Join(s.dir, "b.sock") }

func (s *site) serve() {
	go func() { s.ended <- s.Serve(s.ctx); close(s.ended) }()
}

// close ends the broker, and fails the test when something is left over.
func (s *site) close() {
	select {
	case <-s.ended: // the test has judged how it ended
	default:
		s.settle()
		s.stop()
		if err := s.end(); err != nil {
			s.tb.Errorf("Serve: %v", err)
		}
	}
	for _, end := range s.later {
		end()
	}
	if c, handoffs := s.Pending(); c+handoffs != 0 {
		s.tb.Errorf("at the end %d connections, %d handoffs are pending", c, handoffs)
	}
	s.stop()
}

// end waits for Serve to return.
func (s *site) end() error {
	s.tb.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(patience):
		s.tb.Fatal("Serve does not return")
		return nil
	}
}

// settle waits until nothing is under way.
func (s *site) settle() {
	s.tb.Helper()
	testutil.WaitFor(s.tb, "nothing is pending", func() bool {
		c, handoffs := s.Pending()
		return c+handoffs == 0
	})
}

// ownBinary is the file that this process runs, as backends in it register.
func ownBinary(tb testing.TB) string {
	tb.Helper()
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	return exe
}

// define writes a definition with this binary and the extra lines of TOML.
func (s *site) define(service, extra string) {
	s.tb.Helper()
	s.write(service+".toml", fmt.Sprintf("binary_path = %q\n%s", ownBinary(s.tb), extra))
}

func (s *site) write(name, content string) {
	s.tb.Helper()
	if err := os.WriteFile(filepath.Join(s.defs, name), []byte(content), 0o600); err != nil {
		s.tb.Fatal(err)
	}
}

// dial connects to the broker. The connection ends with the test, and every wait
// on it is bounded.
func (s *site) dial() *net.UnixConn {
	s.tb.Helper()
	return dial(s.tb, s.Socket())
}

func dial(tb testing.TB, path string) *net.UnixConn {
	tb.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		tb.Fatal(err)
	}
	return c
}

// listen runs a backend of the SDK in this process, registered, that echoes what
// clients send.
func (s *site) listen(version string) *backend.Listener {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	l, err := backend.Listen(ctx, backend.Options{
		Service: demo, Version: version, Broker: s.Socket(), Pipe: filepath.Join(s.dir, "echo-"+version[:3]),
	})
	if err != nil {
		s.tb.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); echo(l) }()
	s.later = append(s.later, func() {
		_ = l.Close()
		<-done
	})
	if err := l.WaitRegistered(ctx); err != nil {
		s.tb.Fatal(err)
	}
	return l
}

// echo sends back what each connection of l brings, until l is closed.
func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			go echoOne(c)
		}
	}
}

func echoOne(c net.Conn) {
	defer func() { _ = c.Close() }()
	buf := make([]byte, 1024)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

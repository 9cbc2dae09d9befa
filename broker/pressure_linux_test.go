package broker_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

const fdPressure = wire.ErrorCode_ERROR_FD_PRESSURE

// failures is a log that waits for the fact that accepting has failed first, and then
// measures the processor time of a second of failing.
type failures struct {
	slog.Handler
}

func (failures) Enabled(context.Context, slog.Level) bool { return true }

func (failures) Handle(_ context.Context, r slog.Record) error {
	if eventOf(r) != (event.AcceptFailed{}).Name() {
		return nil
	}
	began, cpu := time.Now(), processorTime()
	say("full")
	time.AfterFunc(time.Second, func() {
		percent := 100 * float64(processorTime()-cpu) / float64(time.Since(began))
		say("percent", strconv.FormatFloat(percent, 'f', 2, 64))
	})
	return nil
}

// eventOf is the stable name of the fact that a line of the broker's log tells.
func eventOf(r slog.Record) (name string) {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "event" {
			name = a.Value.String()
		}
		return name == ""
	})
	return name
}

func processorTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// brokerProcess serves in a process of its own until its input ends. Its mode is the
// limit of descriptors that it begins with, if it has one.
func brokerProcess() error {
	dir := os.Getenv(envSocket)
	if n, err := strconv.ParseUint(os.Getenv(envMode), 10, 64); err == nil {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: n}); err != nil {
			return err
		}
	}
	b, err := broker.Listen(options{
		Socket: filepath.Join(dir, "b.sock"), DefinitionDir: filepath.Join(dir, "defs"), BackendWait: time.Nanosecond, Logger: slog.New(failures{}),
		LogDir: filepath.Join(dir, "logs"),
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() { untilInputEnds(); stop() }()
	say("ready")
	return b.Serve(ctx)
}

// ownBroker runs a broker as a process whose descriptor table a test may fill.
func ownBroker(t *testing.T, env ...string) (*process, *site) {
	t.Helper()
	testutil.Leaks(t)
	dir := testutil.SocketDir(t)
	defs := filepath.Join(dir, "defs")
	if err := os.Mkdir(defs, 0o700); err != nil {
		t.Fatal(err)
	}
	s := &site{tb: t, dir: dir, defs: defs}
	s.define(demo, "")
	p := start(t, "broker", append(env, envSocket+"="+dir)...)
	return p, s
}

// limit sets how many descriptors p may have from now on, and returns what puts
// it back.
func limit(t *testing.T, p *process, n uint64) (lift func()) {
	t.Helper()
	const most = 1 << 10
	var before unix.Rlimit
	if err := unix.Prlimit(p.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: most}, &before); err != nil {
		t.Fatal(err)
	}
	return func() { // on any goroutine, and as often as wanted
		if err := unix.Prlimit(p.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: min(before.Cur, most), Max: most}, nil); err != nil {
			t.Error(err)
		}
	}
}

// TestFullDescriptorTable: accept fails, without costing CPU; then the broker is
// careful for two connections, and well again.
func TestFullDescriptorTable(t *testing.T) {
	p, s := ownBroker(t)
	path := s.Socket()
	lift := limit(t, p, 0)
	first := dial(t, path) // waits in the kernel's queue
	send(t, first, bytesOf(t, adminFrame(wire.AdminVerb_ADMIN_VERB_READYZ, nil)))
	p.says("full")
	percent, err := strconv.ParseFloat(p.says("percent"), 64)
	if err != nil || percent >= 25 { // one that tries without a pause takes all of it
		t.Errorf("%v%% of a processor, %v", percent, err)
	}
	lift()
	reply := new(wire.AdminReply)
	unmarshal(t, readFrame(t, first).Payload, reply)
	if reply.ExitCode != 1 || reply.Body != "not ready\n" {
		t.Errorf("admin while demoted: %v", reply)
	}
	second := dial(t, path)
	send(t, second, helloFor(t, usherClient, nil))
	if r := readRefusal(t, second, fdPressure, "broker is low on file descriptors; retry shortly"); r.RetryAfterMs != 1000 {
		t.Errorf("got %v", r)
	}
	third := dial(t, path)
	send(t, third, helloFor(t, usherClient, nil))
	readRefusal(t, third, notRegistered, "backend is not registered")
	p.end()
}

// TestTableFullAfterAccept: a client whose definition can't be opened for want of
// descriptors is not told that its service is unknown.
func TestTableFullAfterAccept(t *testing.T) {
	testutil.Needs(t, "a wait for more descriptors than the process may have")
	p, s := ownBroker(t)
	raw := helloFor(t, usherClient, nil)
	c := dial(t, s.Socket())
	waiting := dial(t, s.Socket())
	send(t, waiting, []byte{2})
	readRefusal(t, waiting, wire.ErrorCode_ERROR_VERSION_UNSUPPORTED, "") // so c is accepted too
	lift := limit(t, p, 0)
	send(t, c, raw)
	readRefusal(t, c, fdPressure, "")
	lift()
	p.end()
}

// TestStartWithoutDescriptors: wherever in the start of an instance the broker has no
// descriptor left, the client is told that, which passes by itself, and not that the
// instance can't be started.
func TestStartWithoutDescriptors(t *testing.T) {
	p, s := ownBroker(t)
	s.defineStart(ownBinary(t), `idle = "50ms"`, "")
	first := dial(t, s.Socket())
	send(t, first, []byte{2})
	readRefusal(t, first, wire.ErrorCode_ERROR_VERSION_UNSUPPORTED, "") // so it has opened what it always has open
	_ = first.Close()
	open, err := os.ReadDir("/proc/" + strconv.Itoa(p.Process.Pid) + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	for more := 1; ; more++ {
		lift := limit(t, p, uint64(len(open)+more))
		unaccepted := time.AfterFunc(time.Second, lift) // it has opened more since: for the watch on the definitions
		c := dial(t, s.Socket())
		send(t, c, helloFor(t, usherClient, func(r *hello.Request) { r.Version = "1.0." + strconv.Itoa(more) }))
		reply := new(wire.HelloReply)
		unmarshal(t, readFrame(t, c).Payload, reply)
		counts := unaccepted.Stop()
		lift()
		_ = c.Close()
		if !counts {
			continue
		}
		refused := testutil.Refused(reply)
		if refused.Code == 0 {
			break
		}
		if refused.Code != fdPressure {
			t.Errorf("with %d more: %v", more, refused)
		}
		for range 3 { // it is well again
			_ = dial(t, s.Socket()).Close()
		}
	}
	p.end()
}

// TestDemotedBroker: the same states inside one process, with the backend's
// handoffs.
func TestDemotedBroker(t *testing.T) {
	s := newSite(t, nil)
	s.listen(demoVersion)
	s.Demote()
	for range 2 {
		c := s.dial()
		send(t, c, helloFor(t, usherClient, nil))
		readRefusal(t, c, fdPressure, "")
	}
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	readHandedOver(t, c)
	checkEcho(t, c)
	if refused := clientCounts(t, s).Refused; refused[fdPressure.String()] != 2 {
		t.Errorf("counted %v", refused)
	}
}

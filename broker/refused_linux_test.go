package broker_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// What the kernel refuses to a helper process.
const (
	envErrno = "BROKERTEST_ERRNO"
	envCalls = "BROKERTEST_CALLS"
)

// lesser is a set of calls that an old kernel or a container's filter refuses.
type lesser struct {
	calls []testutil.Call
	// late are refused once the process has its event loop, which needs one.
	late              []testutil.Call
	processes, claims string // the mode that the broker states
}

var (
	pidfdOpen = testutil.Call{Number: unix.SYS_PIDFD_OPEN}
	memfd     = testutil.Call{Number: unix.SYS_MEMFD_CREATE}
	preadv2   = testutil.Call{Number: unix.SYS_PREADV2}
	inotify   = testutil.Call{Number: unix.SYS_INOTIFY_INIT1}
	eventfd   = testutil.Call{Number: unix.SYS_EVENTFD2}
)

const byStartTime = "pid and start time"

var lessers = map[string]lesser{
	"pidfd_open":   {[]testutil.Call{pidfdOpen}, nil, byStartTime, "page"},
	"SO_PEERPIDFD": {[]testutil.Call{testutil.PeerPidfd}, nil, "pidfd", "page"},
	"no pidfd":     {[]testutil.Call{pidfdOpen, testutil.PeerPidfd}, nil, byStartTime, "page"},
	"memfd":        {[]testutil.Call{memfd}, nil, "pidfd", "eventfd"},
	"preadv2":      {[]testutil.Call{memfd, preadv2}, nil, "pidfd", "eventfd"},
	"eventfd":      {[]testutil.Call{memfd}, []testutil.Call{eventfd}, "pidfd", "eventfd"},
	"inotify":      {[]testutil.Call{inotify}, nil, "pidfd", "page"},
	"all":          {[]testutil.Call{pidfdOpen, testutil.PeerPidfd, memfd, preadv2, inotify}, []testutil.Call{eventfd}, byStartTime, "eventfd"},
}

func refuse(late bool) error {
	l, ok := lessers[os.Getenv(envCalls)]
	calls := l.calls
	if late {
		calls = l.late
	}
	if !ok || len(calls) == 0 {
		return nil
	}
	errno, err := strconv.Atoi(os.Getenv(envErrno))
	return errors.Join(err, testutil.Refuse(unix.Errno(errno), calls...))
}

// refusedBroker serves like brokerProcess, by lesser means.
func refusedBroker() error {
	if err := refuse(false); err != nil {
		return err
	}
	dir := os.Getenv(envSocket)
	b, err := broker.Listen(options{
		Socket: filepath.Join(dir, "b.sock"), DefinitionDir: filepath.Join(dir, "defs"), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	if err := refuse(true); err != nil {
		return errors.Join(err, b.Close())
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() { untilInputEnds(); stop() }()
	say("ready")
	return b.Serve(ctx)
}

// refusedBackend is backendProcess, by lesser means.
func refusedBackend() error {
	if err := refuse(false); err != nil {
		return err
	}
	return backendProcess()
}

// TestLesserMeans: what an old kernel or a filter refuses is treated as missing.
// Clients are served by handoff, the broker states its mode, and sees a backend's
// end.
func TestLesserMeans(t *testing.T) {
	testutil.Needs(t, "all of these")
	for name, l := range lessers {
		for _, errno := range []unix.Errno{unix.EPERM, unix.ENOSYS} {
			t.Run(name+" "+errno.Error(), func(t *testing.T) { servesByLesserMeans(t, name, l, errno) })
		}
	}
}

func servesByLesserMeans(t *testing.T, name string, l lesser, errno unix.Errno) {
	s := &site{tb: t, dir: testutil.SocketDir(t)}
	s.defs = filepath.Join(s.dir, "defs")
	if err := os.Mkdir(s.defs, 0o700); err != nil {
		t.Fatal(err)
	}
	s.define(demo, "")
	socket := filepath.Join(s.dir, "b.sock")
	env := []string{envCalls + "=" + name, envErrno + "=" + strconv.Itoa(int(errno)), envPipe + "=" + filepath.Join(s.dir, "p")}
	start(t, "refused broker", append(env, envSocket+"="+s.dir)...)
	b := start(t, "refused backend", append(env, envSocket+"="+socket)...)
	ask := func(timeout time.Duration) (*client.Conn, error) {
		return client.Dial(t.Context(), client.Options{Service: demo, Version: demoVersion, Broker: socket, Timeout: timeout, Eager: true})
	}
	for range 3 {
		c, err := ask(patience)
		if err != nil {
			t.Fatal(err)
		}
		if c.Route() != client.HandedOver {
			t.Errorf("the client was %s", c.Route())
		}
		testutil.CheckConnected(t, c, c)
		_ = c.Close()
	}
	var status struct {
		System struct{ Processes, Claims string }
	}
	reply := adminOf(t, socket, wire.AdminVerb_ADMIN_VERB_STATUS, nil)
	if err := json.Unmarshal([]byte(reply.Body), &status); err != nil || status.System.Processes != l.processes || status.System.Claims != l.claims {
		t.Errorf("mode %+v, %v; want %s, %s", status.System, err, l.processes, l.claims)
	}
	if err := b.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "the broker has seen the backend's end", func() bool {
		c, err := ask(time.Second) // so short that it does not wait for another one
		if err == nil {
			_ = c.Close()
		}
		var refused *client.RefusedError
		return errors.As(err, &refused)
	})
}

// TestNoBrokerWithoutFlock: two processes could serve one socket, so none does.
func TestNoBrokerWithoutFlock(t *testing.T) {
	cmd := testutil.Helper(t, "broker without flock")
	cmd.Env = append(cmd.Env, envSocket+"="+testutil.SocketDir(t))
	if out, err := cmd.Output(); err != nil {
		t.Errorf("%s: %v", out, err)
	}
}

func brokerWithoutFlock() error {
	if err := testutil.Refuse(unix.ENOSYS, testutil.Call{Number: unix.SYS_FLOCK}); err != nil {
		return err
	}
	socket := filepath.Join(os.Getenv(envSocket), "b.sock")
	b, err := broker.Listen(options{Socket: socket, DefinitionDir: "/nonexistent"})
	if err == nil {
		return errors.Join(errors.New("it serves"), b.Close())
	}
	var refused *endpoint.LockRefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "allow flock(2)") {
		return err
	}
	if _, err := os.Lstat(socket); err == nil {
		return errors.New("the socket is there")
	}
	return nil
}

package broker_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// sparseService defines a service whose binary has size bytes and takes no room.
func (s *site) sparseService(name string, size int64) {
	s.tb.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, nil, 0o700); err != nil {
		s.tb.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		s.tb.Skipf("no sparse files here: %v", err)
	}
	s.write(name+".toml", fmt.Sprintf("binary_path = %q\n", path))
}

func (s *site) helloTo(service string) net.Conn {
	s.tb.Helper()
	c := s.dial()
	send(s.tb, c, helloFor(s.tb, noHandoff, func(r *hello.Request) { r.Service = service }))
	return c
}

// TestHugeBinaryIsRefusedWithTheReason: a binary of any size costs nothing to
// make. It is not read, and who asks for it is told why.
func TestHugeBinaryIsRefusedWithTheReason(t *testing.T) {
	s := newSite(t, nil)
	s.sparseService("huge", 1<<40)
	_, reply := readReply(t, s.helloTo("huge"))
	if r := testutil.Refused(reply); r.Code != wire.ErrorCode_ERROR_SERVICE_UNKNOWN || !strings.Contains(r.Reason, "huge has 1099511627776 bytes") {
		t.Errorf("Hello: %v", r)
	}
	answer, _, err := register(s.Socket(), &wire.Register{ServiceName: "huge", ServiceVersion: demoVersion, BackendPipe: s.pipe("p")})
	if err != nil || answer.Accepted || !strings.Contains(answer.Reason, "huge has 1099511627776 bytes") {
		t.Errorf("registration: %v, %v", answer, err)
	}
}

// TestHashingKeepsNobodyWaiting: while binaries are hashed that take long, other
// services are served, and the end of serving ends it.
func TestHashingKeepsNobodyWaiting(t *testing.T) {
	s := newSite(t, nil)
	b := s.fake(demoVersion)
	readSentAway(t, s.helloTo(demo), b.pipe) // so what this binary is need not be found out again
	end := hashLarge(t)
	var waiting []net.Conn
	for i := range 8 {
		name := fmt.Sprintf("slow-%d", i)
		s.sparseService(name, 2<<30)
		waiting = append(waiting, s.helloTo(name))
	}
	testutil.WaitFor(t, "all of them are under way", func() bool { n, _ := s.Pending(); return n == len(waiting) })
	for range 20 {
		readSentAway(t, s.helloTo(demo), b.pipe)
	}
	end() // it is the turn of the first of them
	s.stop()
	for _, c := range waiting {
		readRefusal(t, c, shuttingDown, "broker is shutting down; retry shortly")
	}
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

// registrantProcess registers, and waits for the answer.
func registrantProcess() error {
	l, err := net.Listen("unix", os.Getenv(envPipe))
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	say("ready")
	_, _, err = register(os.Getenv(envSocket), &wire.Register{ServiceName: demo, ServiceVersion: demoVersion, BackendPipe: os.Getenv(envPipe)})
	return err
}

// TestHashingEndsWithTheProcess: nobody needs to know any more what a process ran
// that has died.
func TestHashingEndsWithTheProcess(t *testing.T) {
	s := newSite(t, nil)
	hashLarge(t)
	var waiting []net.Conn
	for i := range 8 { // and before its turn comes, these take several seconds more
		name := fmt.Sprintf("slow-%d", i)
		s.sparseService(name, 2<<30)
		waiting = append(waiting, s.helloTo(name))
	}
	underWay := func(n int) func() bool {
		return func() bool { now, _ := s.Pending(); return now == n }
	}
	testutil.WaitFor(t, "all of them are under way", underWay(len(waiting)))
	binary, err := os.ReadFile(ownBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.dir, "large")
	if err := errors.Join(os.WriteFile(path, binary, 0o700), os.Truncate(path, 2<<30)); err != nil {
		t.Fatal(err)
	}
	cmd := testutil.Helper(t, "registrant")
	cmd.Path = path
	cmd.Env = append(cmd.Env, envSocket+"="+s.Socket(), envPipe+"="+filepath.Join(s.dir, "p"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "it registers", underWay(len(waiting)+1))
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	testutil.WaitFor(t, "its registration has ended", underWay(len(waiting)))
	for i, c := range waiting {
		if n := testutil.Unread(t, c.(*net.UnixConn)); n > 0 {
			t.Errorf("client %d was answered before: the registration waited its turn", i)
		}
	}
	s.stop()
}

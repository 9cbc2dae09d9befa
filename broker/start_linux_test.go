package broker_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// startedProcess is an instance that the broker starts: it tells each client who it is, and
// ends when the broker lets it go.
func startedProcess() error {
	if path, told := strings.CutPrefix(os.Getenv(envMode), "exits when told at "); told {
		if err := untilTold(path); err != nil {
			return err
		}
		fmt.Println("no licence")
		return errors.New("can't serve")
	}
	switch os.Getenv(envMode) {
	case "exits":
		fmt.Println("no licence")
		return errors.New("can't serve")
	case "names no pipe":
		return errors.Join(sayReadyAlone("its.sock"), unix.Pause())
	case "hangs":
		child := exec.Command("sleep", "100")
		if err := child.Start(); err != nil {
			return err
		}
		fmt.Printf("waiting for child=%d\n", child.Process.Pid)
		return child.Wait()
	}
	if mark, once := strings.CutPrefix(os.Getenv(envMode), "dies once "); once {
		if f, err := os.OpenFile(mark, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
			_, err = fmt.Fprintln(f, os.Getpid())
			runtime.LockOSThread() // a signal to this very thread stops it before it goes on
			return errors.Join(err, f.Close(), unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP), sayReadyAlone(mark))
		}
	}
	if mark, always := strings.CutPrefix(os.Getenv(envMode), "dies ready "); always {
		f, err := os.OpenFile(mark, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(f, os.Getpid())
		return errors.Join(err, f.Close(), sayReadyAlone(mark), syscall.Kill(os.Getpid(), syscall.SIGKILL))
	}
	if words, idle := strings.CutPrefix(os.Getenv(envMode), "idle at once "); idle {
		mark, changed, _ := strings.Cut(words, " ")
		return idleAtOnce(mark, changed)
	}
	switch os.Getenv(envMode) {
	case "registers", "closes and registers":
		refuseChannel()
	case "registers when it is to end":
		end := make(chan os.Signal, 1)
		signal.Notify(end, syscall.SIGTERM)
		refuseChannel()
		<-end
	}
	l, err := backend.Listen(context.Background(), backend.Options{Busy: startedBusy()})
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return l.Drain(context.Background())
		}
		go func() {
			defer c.Close()
			for lines := bufio.NewScanner(c); lines.Scan(); {
				if os.Getenv(envMode) == "talks" {
					for n := range 10 << 10 {
						fmt.Printf("%8d %s\n", n, strings.Repeat("x", 1014))
					}
				}
				wd, _ := os.Getwd()
				self, _ := os.Readlink("/proc/self/exe")
				_, _ = fmt.Fprintf(c, "pid=%d exe=%s dir=%s args=%q key=%s given=%v\n", os.Getpid(), self, wd, os.Args[1:], os.Getenv("KEY"), !givenEnded.Load())
			}
		}()
	}
}

// starting is a site whose broker starts demo. Its instances end with the test.
func starting(t *testing.T, start, mode string) *site {
	t.Helper()
	s := newSite(t, keepLogs)
	t.Cleanup(func() { // before the broker ends
		for _, b := range readStatus(t, s).Backends {
			_ = syscall.Kill(b.PID, syscall.SIGKILL)
		}
		testutil.WaitFor(t, "all instances have ended", func() bool { return s.Backends() == 0 })
	})
	s.defineStart(ownBinary(t), start, mode)
	return s
}

// keepLogs has the logs of instances, and the events, in a directory of the site.
func keepLogs(o *options) {
	o.LogDir = filepath.Join(filepath.Dir(o.Socket), "logs")
	o.Events = filepath.Join(o.LogDir, "events")
}

func (s *site) defineStart(binary, start, mode string) {
	s.tb.Helper()
	s.write(demo+".toml", fmt.Sprintf("binary_path = %q\nper_version_binary_dir = %q\n[start]\n%s\n[start.env]\nUSHER_TEST_HELPER = \"started\"\nKEY = \"value\"\n%s = %q\n",
		binary, filepath.Join(s.dir, "versions"), start, envMode, mode))
}

// ask asks the instance of a version who it is.
func (s *site) who(version string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := client.DialWith(ctx, client.Options{Service: demo, Version: version, Broker: s.Socket()}, []byte("who\n"))
	if err != nil {
		return "", err
	}
	defer c.Close()
	return bufio.NewReader(c).ReadString('\n')
}

func (s *site) mustAsk(version string) string {
	s.tb.Helper()
	answer, err := s.who(version)
	if err != nil {
		s.tb.Fatal(err)
	}
	return answer
}

func word(answer, name string) string {
	_, rest, _ := strings.Cut(answer, name+"=")
	value, _, _ := strings.Cut(rest, " ")
	return strings.TrimSpace(value)
}

// TestStartOnDemand: who asks first at once is served by one instance, which has what its
// definition says, and is handed their connections.
func TestStartOnDemand(t *testing.T) {
	s := starting(t, `args = ["--cache", "a b"]`, "")
	answers := make([]string, 32)
	var wg sync.WaitGroup
	for n := range answers {
		wg.Go(func() {
			var err error
			if answers[n], err = s.who(demoVersion); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if distinct := slices.Compact(slices.Sorted(slices.Values(answers))); len(distinct) != 1 {
		t.Errorf("got %q", distinct)
	}
	if !strings.Contains(answers[0], `dir=/ args=["--cache" "a b"] key=value`) {
		t.Errorf("got %q", answers[0])
	}
	checkHandoffs(t, s, handoffCounts{Adopted: len(answers)})
	log, err := os.ReadFile(filepath.Join(s.dir, "logs", demo+".log"))
	if err != nil {
		t.Error(err, log)
	}
}

// TestVersionsSideBySide: each version has an instance of its own, started from its own
// file where there is one.
func TestVersionsSideBySide(t *testing.T) {
	s := starting(t, "", "")
	own := filepath.Join(s.dir, "versions", "2.0.0", demo)
	if err := os.MkdirAll(filepath.Dir(own), 0o700); err != nil {
		t.Fatal(err)
	}
	copyBinary(t, own, "2.0.0")
	first, second := s.mustAsk("1.4.0"), s.mustAsk("2.0.0")
	if word(first, "exe") != ownBinary(t) || word(second, "exe") != own {
		t.Errorf("got %q and %q", first, second)
	}
	outside := filepath.Join(s.dir, "versions", "3.0.0", demo)
	if err := os.MkdirAll(filepath.Dir(outside), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/bin/sh", outside); err != nil {
		t.Fatal(err)
	}
	if answer, err := s.who("3.0.0"); err == nil || !strings.Contains(err.Error(), "outside of") {
		t.Errorf("a program from elsewhere: %q, %v", answer, err)
	}
}

// copyBinary writes a build that differs from this one in mark.
func copyBinary(t *testing.T, path, mark string) {
	t.Helper()
	self, err := os.ReadFile(ownBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", append(self, mark...), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// TestBuildReplaced: the next client after the file was replaced is served by the new
// build.
func TestBuildReplaced(t *testing.T) {
	s := starting(t, "", "")
	binary := filepath.Join(s.dir, "demo")
	copyBinary(t, binary, "one")
	s.defineStart(binary, "", "")
	first := s.mustAsk(demoVersion)
	copyBinary(t, binary, "two")
	second := s.mustAsk(demoVersion)
	if word(first, "pid") == word(second, "pid") {
		t.Errorf("got %q and %q", first, second)
	}
}

// TestStartsAreBounded: by the definition, over all versions.
func TestStartsAreBounded(t *testing.T) {
	s := starting(t, "max_instances = 2", "")
	s.mustAsk("1.0.0")
	s.mustAsk("1.1.0")
	if answer, err := s.who("1.2.0"); err == nil || !strings.Contains(err.Error(), "2 instances live already") {
		t.Errorf("got %q, %v", answer, err)
	}
	s.mustAsk("1.0.0")
}

// TestStartFailure: all who wait are told the same, at once; there are three tries in half
// a minute, and a repaired definition is tried again.
func TestStartFailure(t *testing.T) {
	s := starting(t, "", "")
	told := s.told()
	s.defineStart(ownBinary(t), "", "exits when told at "+told.Addr().String())
	errs := make([]string, 16)
	var wg sync.WaitGroup
	for n := range errs {
		wg.Go(func() {
			_, err := s.who(demoVersion)
			errs[n] = fmt.Sprint(err)
		})
	}
	s.clientsWait(len(errs)) // none of them comes behind its end
	tell, err := told.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = tell.Close()
	wg.Wait()
	if distinct := slices.Compact(slices.Sorted(slices.Values(errs))); len(distinct) != 1 {
		t.Errorf("got %q", distinct)
	}
	for _, part := range []string{"exited with code 1 before it was ready", "no licence", "can't serve", "its log is " + s.dir} {
		if !strings.Contains(errs[0], part) {
			t.Errorf("%q is not in %s", part, errs[0])
		}
	}
}

// TestReadyWithoutAPipe: an instance that names no pipe to which a client can be sent is ended.
func TestReadyWithoutAPipe(t *testing.T) {
	s := starting(t, "", "names no pipe")
	if _, err := s.who(demoVersion); err == nil || !strings.Contains(err.Error(), `was ended: it says that it serves "its.sock", which is no absolute path`) {
		t.Errorf("got %v", err)
	}
}

// TestHangingStart: an instance that does not become ready in its time is ended, and what it
// has started with it; its clients are told why.
func TestHangingStart(t *testing.T) {
	reaped := watchChildren(t)
	s := starting(t, "", "")
	child := ""
	for timeout := 300 * time.Millisecond; child == ""; timeout *= 4 { // a busy machine has not come so far
		s.defineStart(ownBinary(t), fmt.Sprintf("timeout = %q", timeout), "hangs")
		began := time.Now()
		_, err := s.who(demoVersion)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("was not ready in %v, and was ended", timeout)) {
			t.Fatalf("got %v", err)
		}
		if took := time.Since(began); took > timeout+patience/2 {
			t.Fatalf("it took %v", took)
		}
		child, _, _ = strings.Cut(word(err.Error(), "child"), ";")
	}
	if _, err := strconv.Atoi(child); err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "its child has ended", func() bool { // a zombie where nobody reaps orphans
		stat, err := os.ReadFile("/proc/" + child + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
	reaped()
}

// watchChildren returns a check, which waits until this process, which is the broker's, has
// reaped all that it has started since.
func watchChildren(t *testing.T) (check func()) {
	before := testutil.Children(t, os.Getpid()) // of brokers that have ended
	return func() {
		t.Helper()
		testutil.WaitFor(t, "all have been reaped", func() bool {
			return !slices.ContainsFunc(testutil.Children(t, os.Getpid()), func(pid int) bool { return !slices.Contains(before, pid) })
		})
	}
}

// TestInstanceKilled: who asks in the moment in which the instance is killed is served by
// the next one, or learns that the instance may have run it; who asks then is served.
func TestInstanceKilled(t *testing.T) {
	s := starting(t, "", "")
	unknown := 0
	for n := range testutil.Repeat(t, "USHER_TEST_KILLS", 20, 3) {
		killed := word(s.mustAsk(demoVersion), "pid")
		pid, err := strconv.Atoi(killed)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		answer, err := s.who(demoVersion)
		switch {
		case errors.Is(err, client.ErrOutcomeUnknown):
			unknown++
		case err != nil || word(answer, "pid") == killed:
			t.Errorf("kill %d: %q, %v", n, answer, err)
		}
		if answer := s.mustAsk(demoVersion); word(answer, "pid") == killed {
			t.Errorf("kill %d: the dead one answers: %q", n, answer)
		}
	}
	t.Logf("%d of unknown outcome", unknown)
	if refused := clientCounts(t, s).Refused; len(refused) > 0 { // for a second each, because nobody knew that another can be started
		t.Errorf("clients were refused before they were served: %v", refused)
	}
}

// TestIdleInstanceGoes: and the next client has another one.
func TestIdleInstanceGoes(t *testing.T) {
	s := starting(t, `idle = "50ms"`, "")
	first := s.mustAsk(demoVersion)
	testutil.WaitFor(t, "it has gone", func() bool { return s.Backends() == 0 })
	pid, err := strconv.Atoi(word(first, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "its process has ended", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
	if second := s.mustAsk(demoVersion); word(second, "pid") == word(first, "pid") {
		t.Errorf("got %q", second)
	}
	left, _ := filepath.Glob(filepath.Join(s.dir, "*-be-*"))
	if len(left) > 1 {
		t.Errorf("pipes left: %q", left)
	}
}

// TestNoRoomIsNoStart: who was refused for want of room has not used up a try.
func TestNoRoomIsNoStart(t *testing.T) {
	s := starting(t, "max_instances = 1", "")
	first := s.mustAsk("1.0.0")
	for range 2 { // each asks more than once
		if answer, err := s.who("1.1.0"); err == nil || !strings.Contains(err.Error(), "1 instances live already") {
			t.Errorf("got %q, %v", answer, err)
		}
	}
	pid, err := strconv.Atoi(word(first, "pid"))
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "it has ended", func() bool { return s.Backends() == 0 })
	s.mustAsk("1.1.0")
}

// sayReadyAlone tells the broker that this instance takes connections, and nothing else.
func sayReadyAlone(pipe string) error {
	_, err := sayAlone(&wire.Note{Kind: wire.NoteKind_NOTE_KIND_READY, BackendPipe: pipe})
	return err
}

// sayAlone says notes on the channel that was given, one right behind the other.
func sayAlone(notes ...*wire.Note) (*sock.Channel, error) {
	fd, err := sock.Inherited("3")
	if err != nil {
		return nil, err
	}
	ch := sock.NewChannel(fd)
	for _, n := range notes {
		said, err := frame.Append(nil, frame.ChannelNote(n))
		if err == nil {
			err = ch.Send(said)
		}
		if err != nil {
			return nil, err
		}
	}
	return ch, nil
}

// TestDiesWhenReady: a client whose instance has died before it took the connection is
// served by the next one, in the time that one takes.
func TestDiesWhenReady(t *testing.T) {
	testutil.Needs(t, "watches")
	s := starting(t, "", "")
	mark := filepath.Join(s.dir, "mark")
	s.write(demo+".toml", fmt.Sprintf("min_version = \"1.0.0\"\nbinary_path = %q\n[start]\n[start.env]\nUSHER_TEST_HELPER = \"started\"\n%s = %q\n", ownBinary(t), envMode, "dies once "+mark))
	testutil.WaitFor(t, "the definition is in the cache", func() bool { // so that nothing is read in between
		bad := s.dial()
		send(t, bad, helloFor(t, usherClient, func(r *hello.Request) { r.Version = "0.0.1" }))
		_ = bad.Close()
		return s.Cached(demo)
	})
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	var pid int
	testutil.WaitFor(t, "the first one has begun", func() bool {
		b, _ := os.ReadFile(mark)
		n, err := fmt.Sscanln(string(b), &pid)
		return n == 1 && err == nil
	})
	testutil.WaitFor(t, "the broker knows it", s.Launched)
	release := s.HoldLoop() // until it is known dead
	testutil.WaitFor(t, "it has ended", func() bool { return errors.Is(syscall.Kill(pid, syscall.SIGCONT), syscall.ESRCH) })
	release()
	readHandedOver(t, c)
}

// TestVersionsBehindALink: the directory of builds may be a symbolic link.
func TestVersionsBehindALink(t *testing.T) {
	s := starting(t, "max_instances = 2", "")
	real := filepath.Join(s.dir, "real")
	own := filepath.Join(real, "2.0.0", demo)
	if err := errors.Join(os.MkdirAll(filepath.Dir(own), 0o700), os.Symlink(real, filepath.Join(s.dir, "versions"))); err != nil {
		t.Fatal(err)
	}
	copyBinary(t, own, "2.0.0")
	if answer := s.mustAsk("2.0.0"); word(answer, "exe") != own {
		t.Errorf("got %q", answer)
	}
}

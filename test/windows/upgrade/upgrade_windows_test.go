package upgrade

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/test/windows/fixture"
)

// upgradable is a broker with such a fault, or none, whose successors end with the test.
func upgradable(t *testing.T, r role) *fixture.Process {
	t.Helper()
	r.Arguments = fixture.Serve()
	serving := fixture.Start(t, "broker", r)
	serving.Until(fixture.Serving)
	t.Cleanup(func() { _, _ = fixture.Run("shutdown") })
	return serving
}

// registered is a backend, once it is.
func registered(t *testing.T) *fixture.Process {
	t.Helper()
	p := fixture.Start(t, "backend", nil)
	p.Until("registered")
	return p
}

// answerOf is the answer of a process to a request that was handed over.
func answerOf(p *fixture.Process, request string) string {
	return fixture.Answer(request, p.PID(), true)
}

// told is how often a broker, and those that have its output, have told of an event.
func told(p *fixture.Process, event string) (n int) {
	for _, line := range p.Lines() {
		if strings.Contains(line, `"event":"`+event+`"`) {
			n++
		}
	}
	return n
}

// upgrade has the broker replaced, and returns the pid of the one that serves then.
func upgrade(t *testing.T) (pid int) {
	t.Helper()
	said := fixture.Usher(t, "upgrade")
	if _, err := fmt.Sscanf(said, "broker %d serves", &pid); err != nil {
		t.Fatalf("usher upgrade says %q", said)
	}
	return pid
}

// load is processes of clients that ask again and again.
type load struct {
	t         *testing.T
	processes []*fixture.Process
}

func underLoad(t *testing.T) *load {
	l := &load{t: t}
	for range 3 {
		l.processes = append(l.processes, fixture.Start(t, "clients", nil))
	}
	return l
}

// goesOn waits until each process has been answered again.
func (l *load) goesOn() {
	l.t.Helper()
	for _, p := range l.processes {
		p.Next("answered ")
	}
}

// judge ends the load: each request was answered, and run once, by one of by. It returns how
// many there were, and how many of them were handed over.
func (l *load) judge(by ...*fixture.Process) (requests, handedOver int) {
	l.t.Helper()
	for _, p := range l.processes {
		p.Leave()
	}
	runs := make(map[string]int)
	for _, p := range l.processes {
		if code := p.Ends(); code != 0 {
			l.t.Errorf("clients ended with %d", code)
		}
		for _, line := range p.Lines() {
			what, request, _ := strings.Cut(line, " ")
			requests++
			if what != "answered" {
				l.t.Error(line)
				continue
			}
			if strings.HasSuffix(request, " true") {
				handedOver++
			}
			request, _, _ = strings.Cut(request, " ")
			runs[request] = 0
		}
	}
	for _, p := range by {
		for _, line := range p.Lines() {
			if request, ok := strings.CutPrefix(line, "ran "); ok {
				runs[request]++
			}
		}
	}
	for request, n := range runs {
		if n != 1 && strings.Contains(request, "-") {
			l.t.Errorf("request %s was run %d times", request, n)
		}
	}
	return requests, handedOver
}

// upgrades is how often a broker is replaced, and more where USHER_FAULT_ROUNDS says so.
func upgrades() int {
	if n, err := strconv.Atoi(os.Getenv("USHER_FAULT_ROUNDS")); err == nil {
		return n
	}
	return 5
}

// TestUpgradeUnderLoad replaces the broker again and again while processes of clients ask: each
// request is served, once, and a connection from before lives on.
func TestUpgradeUnderLoad(t *testing.T) {
	fixture.Surroundings(t)
	serving := upgradable(t, role{})
	lines := registered(t)
	_, old, err := fixture.Ask(fixture.Options(), "first", false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = old.Close() }()
	go lines.Discard()
	clients := underLoad(t)
	clients.goesOn()
	handles := lines.Handles()
	pid := serving.PID()
	for n := range upgrades() {
		next := upgrade(t)
		if next == pid {
			t.Fatalf("the broker is %d still", pid)
		}
		pid = next
		clients.goesOn()
		request := fmt.Sprint("old", n)
		if _, err := fmt.Fprintln(old, request); err != nil {
			t.Fatal(err)
		}
		if answer, err := fixture.ReadLine(old); answer != answerOf(lines, request) {
			t.Fatalf("%q, %v", answer, err)
		}
	}
	requests, handedOver := clients.judge(lines)
	t.Logf("%d of %d requests were handed over", handedOver, requests)
	if handedOver < requests/2 { // one that the backend has no time for is not
		t.Error("most were not")
	}
	if !testutil.Settles(func() bool { return lines.Handles() < handles+requests/2 }) { // threads of the runtime have some too
		t.Errorf("the backend has %d handles, and had %d", lines.Handles(), handles)
	}
	fixture.Usher(t, "shutdown")
	serving.Ends() // and what has its output, which is all of them
	taken, registered := told(serving, "backend.taken_over"), told(serving, "backend.registered")
	if taken == 0 || taken+registered < upgrades()+1 { // one registers again that has missed a deadline just then
		t.Errorf("the backend was passed on %d times, and has registered %d times", taken, registered)
	}
}

// upgrading is an upgrade that is under way, and what usher upgrade makes of it.
func upgrading() (ended chan error) {
	ended = make(chan error, 1)
	go func() {
		_, err := fixture.Run("upgrade")
		ended <- err
	}()
	return ended
}

func await(t *testing.T, ended chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(fixture.Patience):
		t.Fatal("the upgrade has not ended")
		return nil
	}
}

// nobodyElse tries to start a broker of the same name.
func nobodyElse(t *testing.T) {
	t.Helper()
	third := fixture.Start(t, "usher", fixture.Serve())
	third.Until("already serves")
	if code := third.Ends(); code != 1 {
		t.Errorf("a third broker ended with %d", code)
	}
}

// TestSuccessorLost before it has said that it begins, ended or frozen: the first serves on, and
// nobody notices.
func TestSuccessorLost(t *testing.T) {
	for name, r := range map[string]role{
		"ended, told":    {Point: failpoint.BrokerTold},
		"ended, claimed": {Point: failpoint.BrokerClaimed},
		"frozen, told":   {Point: failpoint.BrokerTold, Freeze: true, Thaw: "never"},
	} {
		t.Run(name, func(t *testing.T) {
			fixture.Surroundings(t)
			serving := upgradable(t, r)
			lines := registered(t)
			go lines.Discard()
			clients := underLoad(t)
			clients.goesOn()
			ended := upgrading()
			serving.Until("at " + string(r.Point))
			if err := await(t, ended); err == nil {
				t.Error("usher upgrade ends well")
			}
			nobodyElse(t)
			clients.goesOn()
			clients.judge(lines)
			if status := fixture.Usher(t, "status", "--json"); !strings.Contains(status, fmt.Sprintf(`"broker_pid":%d,`, serving.PID())) {
				t.Errorf("%d does not serve: %s", serving.PID(), status)
			}
		})
	}
}

// TestSuccessorHasNoClients before it has said that it begins, though it has the place: when it
// ends, nobody is lost.
func TestSuccessorHasNoClients(t *testing.T) {
	fixture.Surroundings(t)
	serving := upgradable(t, role{Point: failpoint.BrokerClaimed, Freeze: true, Thaw: "never"})
	lines := registered(t)
	ended := upgrading()
	var pid uint32
	said := serving.Until("at " + string(failpoint.BrokerClaimed))
	if _, err := fmt.Sscanf(said, "at "+string(failpoint.BrokerClaimed)+" pid %d", &pid); err != nil {
		t.Fatal(said)
	}
	for range 20 { // more than wait at once
		answer, c, err := fixture.Ask(fixture.Options(), "once", false)
		if err != nil || answer != answerOf(lines, "once") {
			t.Errorf("%q, %v", answer, err)
		} else {
			_ = c.Close()
		}
		dialled(t, serving)
	}
	successor, err := windows.OpenProcess(windows.PROCESS_TERMINATE, false, pid)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = windows.CloseHandle(successor) }()
	if err := windows.TerminateProcess(successor, 9); err != nil {
		t.Fatal(err)
	}
	if err := await(t, ended); err == nil {
		t.Error("usher upgrade ends well")
	}
	dialled(t, serving)
}

// TestPredecessorLost behind its word that the successor may begin: that one begins, and nobody
// else can have the name in between.
func TestPredecessorLost(t *testing.T) {
	fixture.Surroundings(t)
	thaw := filepath.Join(fixture.TempDir(t), "thaw")
	serving := upgradable(t, role{Point: failpoint.BrokerTold, Freeze: true, Thaw: thaw})
	lines := registered(t)
	go lines.Discard()
	ended := upgrading()
	serving.Until("at " + string(failpoint.BrokerTold))
	serving.Kill()
	serving.Wait()
	_ = await(t, ended)
	nobodyElse(t)
	asked := make(chan error, 1)
	go func() {
		answer, c, err := fixture.Ask(fixture.Options(), "first", true)
		if err == nil && answer != answerOf(lines, "first") {
			err = errors.New(answer)
		}
		if c != nil {
			_ = c.Close()
		}
		asked <- err
	}()
	if err := os.WriteFile(thaw, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-asked; err != nil {
		t.Error(err)
	}
}

// TestNobodyIsRefusedInBetween: the successor has said that it begins, the first has ended, and
// nobody can connect yet.
func TestNobodyIsRefusedInBetween(t *testing.T) {
	fixture.Surroundings(t)
	thaw := filepath.Join(fixture.TempDir(t), "thaw")
	serving := upgradable(t, role{Point: failpoint.BrokerTaken, Freeze: true, Thaw: thaw})
	lines := registered(t)
	ended := upgrading()
	serving.Until("at " + string(failpoint.BrokerTaken))
	if err := await(t, ended); err != nil {
		t.Error(err)
	}
	serving.Wait()
	if c, err := sock.Dial(os.Getenv(endpoint.SocketVariable)); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("dialled: %v, %v", c, err)
	}
	clients := underLoad(t)
	nobodyElse(t)
	if err := os.WriteFile(thaw, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	clients.goesOn()
	clients.judge(lines)
}

// TestPredecessorFrozen behind its word that the successor may begin: that one serves, and who
// has come to the frozen one is served when that goes on.
func TestPredecessorFrozen(t *testing.T) {
	fixture.Surroundings(t)
	thaw := filepath.Join(fixture.TempDir(t), "thaw")
	serving := upgradable(t, role{Point: failpoint.BrokerOffered, Freeze: true, Thaw: thaw, Tell: failpoint.BrokerTaken})
	lines := registered(t)
	go lines.Discard()
	ended := upgrading()
	serving.Until("at " + string(failpoint.BrokerOffered))
	suspended(t, serving.PID(), "NtSuspendProcess")
	serving.Until("at " + string(failpoint.BrokerTaken))
	c := dialled(t, serving)
	clients := underLoad(t)
	nobodyElse(t)
	suspended(t, serving.PID(), "NtResumeProcess")
	if err := os.WriteFile(thaw, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := await(t, ended); err != nil {
		t.Error(err)
	}
	clients.goesOn()
	clients.judge(lines)
	serving.Wait()
	if _, err := c.Write([]byte("no Hello")); err != nil {
		t.Error(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(fixture.Patience))
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Errorf("who came to the frozen one has no answer: %v", err)
	}
}

// dialled is a client of that very broker, who says nothing.
func dialled(t *testing.T, p *fixture.Process) *sock.Conn {
	t.Helper()
	c, err := sock.Dial(os.Getenv(endpoint.SocketVariable))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if served, err := sock.PeerOf(c); err != nil || served.PID != p.PID() {
		t.Fatalf("the client's server is %v, %v", served, err)
	}
	return c
}

func suspended(t *testing.T, pid int, call string) {
	t.Helper()
	h, err := windows.OpenProcess(windows.PROCESS_SUSPEND_RESUME, false, uint32(pid))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = windows.CloseHandle(h) }()
	if status, _, _ := windows.NewLazySystemDLL("ntdll.dll").NewProc(call).Call(uintptr(h)); status != 0 {
		t.Fatalf("%s: %v", call, windows.NTStatus(status))
	}
}

//go:build linux

package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/brokerpb"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
)

const (
	service = "faults"
	version = "1.0.0"
	// ackDeadline is short, so that a frozen backend does not cost a test
	// seconds, and long against a busy machine's scheduling.
	ackDeadline = 200 * time.Millisecond
)

// world is a broker's surroundings: directories, one broker process at a time,
// any number of backends, and the journal of what they ran.
type world struct {
	early   bool   // requests go along with Hello
	dialled func() // called, if set, before a request that doesn't
	t       *testing.T
	dir     string
	journal string
	broker  *process
	started int // processes
	lastID  atomic.Int64
}

// newWorld may be called in tests that run side by side, so the caller, or its
// parent test, looks for leaks in this process itself.
func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "u")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := &world{t: t, dir: dir, journal: filepath.Join(dir, "journal")}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w.write(w.definitions(), service+".toml", fmt.Sprintf("binary_path = %q\n", exe))
	w.write(dir, "journal", "")
	return w
}

// steadyWorld is a world with a broker and one backend that meets no fault. The
// function it returns ends both, once they are back to what they held.
func steadyWorld(t *testing.T, early bool) (*world, func()) {
	t.Helper()
	w := newWorld(t)
	w.early = early
	w.startBroker(role{})
	steady := w.start("backend", role{})
	w.settled()
	brokerRests, steadyRests := w.broker.atRest(), steady.atRest()
	return w, func() {
		t.Helper()
		brokerRests()
		steadyRests()
		steady.quit()
		w.broker.quit()
	}
}

func (w *world) write(dir, name, content string) {
	w.t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) definitions() string { return filepath.Join(w.dir, "definitions") }
func (w *world) socket() string      { return filepath.Join(w.dir, "run", "usher.sock") }

// process is a helper process. Its standard input ends it gently.
type process struct {
	*exec.Cmd
	t     *testing.T
	stdin io.WriteCloser
	lines *bufio.Reader
}

func (w *world) start(name string, r role) *process {
	w.t.Helper()
	w.started++
	r.Socket, r.Definitions, r.Journal = w.socket(), w.definitions(), w.journal
	if r.AckDeadline == 0 {
		r.AckDeadline = ackDeadline
	}
	r.Pipe = filepath.Join(w.dir, "run", fmt.Sprintf("%d.sock", w.started))
	cmd := testutil.Helper(w.t, name)
	encoded, err := json.Marshal(r)
	if err != nil {
		w.t.Fatal(err)
	}
	cmd.Env = append(cmd.Env, roleVariable+"="+string(encoded))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	p := &process{Cmd: cmd, t: w.t, stdin: stdin, lines: bufio.NewReader(stdout)}
	if line := p.line(); line != "ready" {
		w.t.Fatalf("%s: %q instead of ready", name, line)
	}
	return p
}

func (w *world) startBroker(r role) { w.t.Helper(); w.broker = w.start("broker", r) }

func (p *process) line() string {
	line, _ := p.lines.ReadString('\n')
	return strings.TrimSuffix(line, "\n")
}

func (p *process) signal(s syscall.Signal) { _ = p.Process.Signal(s) }

// kill ends the process at once and reaps it.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	_ = p.Wait()
}

// quit lets the process end by itself and fails the test when it ends badly.
func (p *process) quit() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if err := p.Wait(); err != nil {
		p.t.Errorf("process %d: %v", p.Process.Pid, err)
	}
}

// died waits for a process that kills itself.
func (p *process) died() {
	p.t.Helper()
	err := p.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		p.t.Fatalf("process %d was to kill itself: %v", p.Process.Pid, err)
	}
}

// frozen waits until the process has stopped itself.
func (p *process) frozen() {
	p.t.Helper()
	testutil.WaitFor(p.t, "process stopped", func() bool { return p.state() == "T" })
}

func (p *process) state() string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Process.Pid))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return rest[:1]
}

func (p *process) fds() int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(entries)
}

func (p *process) goroutines() int {
	p.t.Helper()
	if _, err := io.WriteString(p.stdin, "\n"); err != nil {
		p.t.Fatal(err)
	}
	n, err := strconv.Atoi(p.line())
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

// fill leaves the process no descriptor to receive anything with.
func (p *process) fill() {
	p.t.Helper()
	limit := unix.Rlimit{Cur: 0, Max: uint64(1 << 10)}
	if err := unix.Prlimit(p.Process.Pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		p.t.Fatal(err)
	}
}

// atRest remembers a process' descriptors and goroutines; the function it
// returns waits until both are back. Call it when nothing is under way, see
// settled.
func (p *process) atRest() func() {
	p.t.Helper()
	fds, goroutines := p.fds(), p.goroutines()
	return func() {
		p.t.Helper()
		testutil.WaitFor(p.t, fmt.Sprintf("process %d back to %d descriptors", p.Process.Pid, fds), func() bool { return p.fds() <= fds })
		testutil.WaitFor(p.t, fmt.Sprintf("process %d back to %d goroutines", p.Process.Pid, goroutines), func() bool { return p.goroutines() <= goroutines })
	}
}

// healthy makes one request that meets no fault: it is handed over and answered.
// It also empties the broker's failure window, which would end handoffs after 8
// faults in a row.
func (w *world) healthy() {
	w.t.Helper()
	got := w.request(10 * time.Second)
	w.judge(got)
	if got.verdict != answered || got.route != client.HandedOver {
		w.t.Errorf("after the fault: %s by %q, %v", got.verdict, got.route, got.err)
	}
}

// registered waits until the broker has n backends, each with its channel in
// hand: a registration's connection ends after that.
func (w *world) registered(n int) {
	w.t.Helper()
	testutil.WaitFor(w.t, fmt.Sprintf("%d backends registered", n), func() bool {
		s := w.status()
		return len(s.Backends) == n && s.Open == 1
	})
}

// settled makes one request, so that every backend's registration is through,
// and waits until the broker has no connection but the one that asks.
func (w *world) settled() {
	w.t.Helper()
	w.healthy()
	testutil.WaitFor(w.t, "no connection under way", func() bool { return w.status().Open == 1 })
}

// verdict is what a client may conclude about its request.
type verdict string

const (
	answered verdict = "answered"
	unknown  verdict = "unknown"  // must not be sent again
	notSent  verdict = "not sent" // may be sent again
)

// result is one request's fate as its client sees it.
type result struct {
	id      string
	verdict verdict
	route   client.Route
	err     error
}

// request dials anew, sends one request, and returns what the client knows in
// the end. patience bounds the dial and the answer each.
func (w *world) request(patience time.Duration) result {
	w.t.Helper()
	res := result{id: fmt.Sprintf("request-%d", w.lastID.Add(1))}
	conn, err := w.dialFor(res.id, patience)
	if err != nil {
		res.verdict, res.err = notSent, err
		if errors.Is(err, client.ErrOutcomeUnknown) {
			res.verdict = unknown
		}
		return res
	}
	defer func() { _ = conn.Close() }()
	res.route = conn.Route()
	if w.early {
		_ = conn.SetDeadline(time.Now().Add(patience))
		res.verdict, res.err = hear(conn, res.id)
		return res
	}
	if w.dialled != nil {
		w.dialled()
	}
	res.verdict, res.err = ask(conn, res.id, patience)
	return res
}

// requestHalfClosed sends one request along with Hello and ends the client's
// direction behind it, before there is a verdict.
func (w *world) requestHalfClosed() result {
	w.t.Helper()
	res := result{id: fmt.Sprintf("request-%d", w.lastID.Add(1))}
	opts := w.options(10 * time.Second)
	opts.Eager = false // the broker is known by now
	conn, err := client.Dial(context.Background(), opts)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, res.id+"\n"); err != nil {
		w.t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		w.t.Fatal(err)
	}
	res.verdict, res.err = hear(conn, res.id)
	res.route = conn.Route()
	return res
}

// dialFor dials for a request, which goes along with Hello where the world says
// so.
func (w *world) dialFor(id string, patience time.Duration) (*client.Conn, error) {
	if w.early {
		return client.DialWith(context.Background(), w.options(patience), []byte(id+"\n"))
	}
	return w.dial(patience)
}

func (w *world) dial(patience time.Duration) (*client.Conn, error) {
	return client.Dial(context.Background(), w.options(patience))
}

func (w *world) options(patience time.Duration) client.Options {
	return client.Options{Service: service, Version: version, Broker: w.socket(), Timeout: patience, Eager: true}
}

// ask sends one request on conn and reads its answer.
func ask(conn *client.Conn, id string, patience time.Duration) (verdict, error) {
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, id+"\n"); err != nil {
		if errors.Is(err, client.ErrOutcomeUnknown) {
			return unknown, err
		}
		return notSent, err // nothing of it left: the peer was gone already
	}
	return hear(conn, id)
}

// hear reads the answer.
func hear(conn *client.Conn, id string) (verdict, error) {
	line, err := bufio.NewReader(conn).ReadString('\n')
	switch {
	case err == nil && line == id+" done\n":
		return answered, nil
	case err == nil:
		return unknown, fmt.Errorf("answer %q", line)
	case errors.Is(err, client.ErrOutcomeUnknown):
		return unknown, err
	}
	return "", err
}

// executions counts what the backends ran.
func (w *world) executions() map[string]int {
	w.t.Helper()
	content, err := os.ReadFile(w.journal)
	if err != nil {
		w.t.Fatal(err)
	}
	ran := make(map[string]int)
	for line := range strings.Lines(string(content)) {
		ran[strings.TrimSuffix(line, "\n")]++
	}
	return ran
}

// judge holds results against what ran: nothing twice, what was answered once,
// what was not sent never.
func (w *world) judge(results ...result) {
	w.t.Helper()
	ran := w.executions()
	for _, r := range results {
		n := ran[r.id]
		switch {
		case r.verdict == "":
			w.t.Errorf("%s has no verdict: %v", r.id, r.err)
		case n > 1:
			w.t.Errorf("%s ran %d times (%s)", r.id, n, r.verdict)
		case r.verdict == answered && n != 1:
			w.t.Errorf("%s was answered and ran %d times", r.id, n)
		case r.verdict == notSent && n != 0:
			w.t.Errorf("%s was not sent and ran %d times", r.id, n)
		}
	}
}

// reconnected waits until the broker has sent more than n clients to a pipe.
func (w *world) reconnected(n int) {
	w.t.Helper()
	testutil.WaitFor(w.t, "client sent to the backend's pipe", func() bool {
		return w.status().Clients.Reconnected > n
	})
}

// status is the part of the broker's own figures that tests look at.
type status struct {
	Open     int `json:"connections_open"`
	Backends []struct{ PID int }
	Clients  struct{ Reconnected, Gone int }
	Handoffs struct {
		Adopted, Unknown, Retried int
		NotTaken                  int `json:"not_taken"`
		LateACK                   int `json:"late_ack"`
		ProvenUnread              int `json:"proven_unread"`
	}
}

func (w *world) status() (s status) {
	w.t.Helper()
	conn, err := net.Dial("unix", w.socket())
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	request := frame.Marshal(&brokerpb.AdminRequest{Verb: brokerpb.AdminVerb_ADMIN_VERB_STATUS, Json: true})
	if _, err := frame.Write(conn, frame.Request(frame.Admin, 1, request)); err != nil {
		w.t.Fatal(err)
	}
	f, _, err := frame.Read(conn, frame.MaxBody)
	if err != nil {
		w.t.Fatal(err)
	}
	reply := new(brokerpb.AdminReply)
	if err := frame.Unmarshal(f.Payload, reply); err != nil {
		w.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(reply.Body), &s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

func rounds() int {
	if testing.Short() {
		return 3
	}
	return 30
}

package launch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

const (
	numbersVariable = "USHER_TEST_NUMBERS"
	patience        = 40 * time.Second
)

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func() error{"told": told, "parent": parent, "channel": channel})
}

// told says on the inherited pipe what it was given, and ends with 3 when its log has been
// written to.
func told() error {
	fd, err := sock.Inherited(os.Getenv(numbersVariable))
	if err != nil {
		return err
	}
	out, err := fd.File("out")
	if err != nil {
		return err
	}
	wd, _ := os.Getwd()
	n, readErr := os.Stdin.Read(make([]byte, 1))
	fmt.Println("on standard output")
	fmt.Fprintln(os.Stderr, "on standard error")
	_, _ = fmt.Fprintf(out, "%s|%s|%d %v|%s\n", wd, os.Args[1:], n, readErr, os.Getenv("USHER_TEST_OWN"))
	_ = out.Close()
	os.Exit(3)
	return nil
}

// parent starts a process of its own, says who the two are, and waits to be ended.
func parent() error {
	fd, err := sock.Inherited(os.Getenv(numbersVariable))
	if err != nil {
		return err
	}
	out, err := fd.File("out")
	if err != nil {
		return err
	}
	if os.Getenv("USHER_TEST_OWN") == "child" {
		select {}
	}
	p, err := Start(Spec{Path: os.Args[0], Env: append(os.Environ(), "USHER_TEST_OWN=child"), Inherit: []*os.File{out}, Numbers: numbersVariable})
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out, os.Getpid(), p.PID())
	select {}
}

// channel sends what comes on the channel that it has inherited back on the one beside it.
func channel() error {
	fd, err := sock.Inherited(os.Getenv(numbersVariable))
	if err != nil {
		return err
	}
	ch := sock.NewChannel(fd)
	defer func() { _ = ch.Close() }()
	m, err := ch.Recv()
	if err != nil {
		return err
	}
	passed := sock.NewChannel(m.FDs.Take(0))
	f, err := m.Frame()
	if err != nil {
		return err
	}
	msg, err := frame.Append(nil, f)
	if err != nil {
		return err
	}
	return errors.Join(passed.Send(msg), passed.Close())
}

// begin starts the test binary as a helper that has the writing end of a pipe.
func begin(t *testing.T, helper string, s Spec, extra ...string) (*Process, *bufio.Reader) {
	t.Helper()
	out, into, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = out.Close() })
	s.Path, s.Numbers = os.Args[0], numbersVariable
	s.Inherit = []*os.File{into}
	s.Env = append(Baseline(extra...), "USHER_TEST_HELPER="+helper)
	p, err := Start(s)
	_ = into.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		p.End(ctx, 0)
	})
	return p, bufio.NewReader(out)
}

// tempDir is t.TempDir for a directory of files, removed by the calls that Wine has.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "usher")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		entries, err := os.ReadDir(dir)
		for _, e := range entries {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
		if err := errors.Join(err, os.Remove(dir)); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func wait(t *testing.T, p *Process) Exit {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	exit, err := p.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return exit
}

func TestStart(t *testing.T) {
	program, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = program.Close() }()
	log, err := os.Create(filepath.Join(tempDir(t), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	p, said := begin(t, "told", Spec{Program: program, Args: []string{"a b", `c"d`}, Output: log}, "USHER_TEST_OWN=value")
	line, err := said.ReadString('\n')
	if want := root + `|[a b c"d]|0 EOF|value` + "\n"; line != want || err != nil {
		t.Errorf("it said %q, %v; want %q", line, err, want)
	}
	if exit := wait(t, p); exit != (Exit{Code: 3}) {
		t.Errorf("it %v", exit)
	}
	text, err := os.ReadFile(log.Name())
	if string(text) != "on standard output\non standard error\n" || err != nil {
		t.Errorf("its log is %q, %v", text, err)
	}
	if rest, err := io.ReadAll(said); len(rest) > 0 || err != nil { // the end: this process has kept no copy
		t.Errorf("behind its end %q, %v", rest, err)
	}
}

func openPID(t *testing.T, pid int) *peer.Process {
	t.Helper()
	p, err := peer.OpenPID(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// TestEnd: what a process has started ends with it.
func TestEnd(t *testing.T) {
	p, said := begin(t, "parent", Spec{})
	var own, other int
	if _, err := fmt.Fscan(said, &own, &other); err != nil || own != p.PID() {
		t.Fatalf("%d, %v", own, err)
	}
	child := openPID(t, other)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if exit := p.End(ctx, patience); exit != (Exit{Code: endedCode}) {
		t.Errorf("it %v", exit)
	}
	if err := child.Wait(ctx); err != nil {
		t.Errorf("its child: %v", err)
	}
}

// TestRelease: the process lives on, and what it has started.
func TestRelease(t *testing.T) {
	p, said := begin(t, "parent", Spec{})
	var own, other int
	if _, err := fmt.Fscan(said, &own, &other); err != nil {
		t.Fatal(err)
	}
	both := []*peer.Process{openPID(t, own), openPID(t, other)}
	p.Release()
	if _, err := p.Wait(context.Background()); !errors.Is(err, os.ErrClosed) {
		t.Errorf("waited for: %v", err)
	}
	for _, one := range both { // a job that ends its processes has done so when it is closed
		if !one.Alive() {
			t.Errorf("process %d has ended", one.PID())
		}
		h, err := windows.OpenProcess(windows.PROCESS_TERMINATE, false, uint32(one.PID()))
		if err != nil {
			t.Fatal(err)
		}
		_ = windows.TerminateProcess(h, 1)
		_ = windows.CloseHandle(h)
	}
}

// TestChannelGiven: handles that are sent on the near end of a channel reach the process
// that was started with the far one.
func TestChannelGiven(t *testing.T) {
	near, far, err := sock.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = near.Close() }()
	p, err := Start(Spec{
		Path: os.Args[0], Env: append(Baseline(), "USHER_TEST_HELPER=channel"),
		Given: []*sock.FD{far}, Numbers: numbersVariable,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := far.GivenTo(p.PID()); err != nil {
		t.Fatal(err)
	}
	passedNear, passedFar, err := sock.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = passedNear.Close() }()
	msg, err := frame.Append(nil, &wire.Frame{Payload: []byte("message")})
	if err != nil {
		t.Fatal(err)
	}
	if err := near.Send(msg, passedFar); err != nil {
		t.Fatal(err)
	}
	passedFar.Close()
	if m, err := passedNear.Recv(); err != nil || string(m.Body) != string(msg[frame.HeaderLen:]) {
		t.Errorf("%q, %v", m.Body, err)
	}
	if exit := wait(t, p); exit != (Exit{}) {
		t.Errorf("it %v", exit)
	}
}

// TestReplaced: the file that runs is the one that was opened, or none.
func TestReplaced(t *testing.T) {
	other := filepath.Join(tempDir(t), "other.exe")
	if err := os.WriteFile(other, []byte("another build"), 0o600); err != nil {
		t.Fatal(err)
	}
	program, err := os.Open(other)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = program.Close() }()
	if p, err := Start(Spec{Program: program, Path: os.Args[0]}); !errors.Is(err, errReplaced) {
		t.Errorf("%v, %v", p, err)
	}
	if err := os.Rename(other, other+".old"); err == nil {
		t.Error("a program that is open was moved away")
	}
}

func TestFileID(t *testing.T) {
	ids := make(map[string]bool)
	for _, name := range []string{os.Args[0], os.Args[0], filepath.Dir(os.Args[0])} {
		id, err := FileID(name, nil)
		if len(id) == 0 || err != nil {
			t.Errorf("%s: %x, %v", name, id, err)
		}
		ids[string(id)] = true
	}
	if len(ids) != 2 {
		t.Errorf("two files have %d identities", len(ids))
	}
	if id, err := FileID(os.Args[0]+".none", nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of no file: %x, %v", id, err)
	}
}

// TestBaseline: what somebody had set by accident is not in it.
func TestBaseline(t *testing.T) {
	t.Setenv("USHER_TEST_ACCIDENT", "1")
	t.Setenv("LOCALAPPDATA", `C:\elsewhere`)
	env := Baseline("USHER_TEST_OWN=1")
	for _, want := range []string{`LOCALAPPDATA=C:\elsewhere`, "USHER_TEST_OWN=1"} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is not in %q", want, env)
		}
	}
	names := make(map[string]bool)
	for _, e := range env {
		name, _, _ := strings.Cut(strings.ToUpper(e), "=")
		if names[name] {
			t.Errorf("%s comes twice", name)
		}
		names[name] = true
	}
	if !names["SYSTEMROOT"] { // a prefix of Wine that is new may have little more
		t.Errorf("it is no login's: %q", env)
	}
	if names["USHER_TEST_ACCIDENT"] {
		t.Error("an accident is in it")
	}
}

package launch_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/launch"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// envRole makes this binary one of the roles below.
const envRole = "LAUNCH_TEST_ROLE"

const path = "PATH=/usr/bin:/bin"

var roles = map[string]func(){
	"tells": func() {
		wd, _ := os.Getwd()
		sid, _ := unix.Getsid(0)
		if err := launch.CloseStray(3); err != nil {
			os.Exit(2)
		}
		_, err := fmt.Fprintf(os.NewFile(3, "passed"), "dir=%s session=%v args=%q env=%q stray=%v\n",
			wd, sid == os.Getpid(), os.Args, os.Environ(), isOpen(4))
		if err != nil {
			os.Exit(2)
		}
		fmt.Println("to the log")
		fmt.Fprintln(os.Stderr, "this too")
		os.Exit(7)
	},
	"stubborn": func() {
		signal.Ignore(syscall.SIGTERM)
		child := exec.Command("sleep", "1000")
		if err := child.Start(); err != nil {
			os.Exit(2)
		}
		fmt.Fprintln(os.NewFile(3, "passed"), child.Process.Pid)
		select {}
	},
	"obliging": func() {
		child := exec.Command("sleep", "1000")
		if err := child.Start(); err != nil {
			os.Exit(2)
		}
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, syscall.SIGTERM)
		fmt.Fprintln(os.NewFile(3, "passed"), child.Process.Pid)
		<-asked
		os.Exit(0)
	},
}

func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

func TestMain(m *testing.M) {
	if role := roles[os.Getenv(envRole)]; role != nil {
		role()
	}
	testutil.Main(m, nil)
}

// begin starts role, and returns a reader of what it writes to descriptor 3.
func begin(t *testing.T, role string, change func(*launch.Spec)) (*launch.Process, *bufio.Reader) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	from, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	t.Cleanup(func() { _ = from.Close() })
	_ = from.SetReadDeadline(time.Now().Add(time.Minute))
	s := launch.Spec{Path: self, Env: []string{envRole + "=" + role, path}, Inherit: []*os.File{to}}
	if change != nil {
		change(&s)
	}
	p, err := launch.Start(s)
	if err != nil {
		t.Fatal(err)
	}
	return p, bufio.NewReader(from)
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// TestStart: what a process gets, and nothing else; how it ended is known, and no zombie
// is left.
func TestStart(t *testing.T) {
	testutil.Leaks(t)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	t.Setenv("ACCIDENTAL", "1")
	p, said := begin(t, "tells", func(s *launch.Spec) {
		s.Args, s.Output, s.Inherit = []string{"-x"}, log, append(s.Inherit, log) // the second is stray
	})
	exit, err := p.Wait(within(t))
	if err != nil || exit.Code != 7 || exit.Signal != "" || exit.String() != "exited with code 7" {
		t.Errorf("ended as %v, %v", exit, err)
	}
	line, err := said.ReadString('\n')
	self, _ := os.Executable()
	want := fmt.Sprintf("dir=/ session=true args=%q env=%q stray=false\n", []string{self, "-x"}, []string{envRole + "=tells", path})
	if line != want || err != nil {
		t.Errorf("got  %s, %v\nwant %s", line, err, want)
	}
	text, err := os.ReadFile(log.Name())
	if string(text) != "to the log\nthis too\n" || err != nil {
		t.Errorf("log %q, %v", text, err)
	}
	if err := syscall.Kill(p.PID(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("not reaped: %v", err)
	}
	if again, err := p.Wait(within(t)); again != exit || err != nil {
		t.Errorf("the second time %v, %v", again, err)
	}
}

// TestReplacedProgram: the file that was opened is started, whatever its path leads to
// by now, and whatever numbers its descriptors have; where nothing leads to it but its path,
// nothing is started.
func TestReplacedProgram(t *testing.T) {
	testutil.Leaks(t)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	tool := filepath.Join(t.TempDir(), "tool")
	if err := os.WriteFile(tool, self, 0o700); err != nil {
		t.Fatal(err)
	}
	program, err := os.Open(tool)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	if err := os.Remove(tool); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tool, []byte("#!/bin/false\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if testutil.Portable {
		if p, err := launch.Start(launch.Spec{Program: program, Path: tool}); p != nil || err == nil || !strings.Contains(err.Error(), "replaced") {
			t.Errorf("what is at the path by now was started: %v, %v", p, err)
		}
		return
	}
	p, said := begin(t, "tells", func(s *launch.Spec) {
		s.Program, s.Path = program, tool
		for range 20 { // more than there are numbers below the program's
			s.Inherit = append(s.Inherit, os.Stdin)
		}
	})
	if exit, err := p.Wait(within(t)); err != nil || exit.Code != 7 {
		t.Errorf("ended as %v, %v", exit, err)
	}
	if line, err := said.ReadString('\n'); !strings.Contains(line, tool) {
		t.Errorf("got %s, %v", line, err)
	}
}

// TestProgramBehindTheHighestFile: nothing takes the program's number before it runs, not
// even what package syscall puts behind the highest of the files.
func TestProgramBehindTheHighestFile(t *testing.T) {
	testutil.Leaks(t)
	program, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	const number = 200
	n, err := unix.FcntlInt(program.Fd(), unix.F_DUPFD_CLOEXEC, number)
	if err != nil {
		t.Fatal(err)
	}
	high := os.NewFile(uintptr(n), "high")
	defer high.Close()
	p, said := begin(t, "tells", func(s *launch.Spec) {
		s.Program = program
		for len(s.Inherit) < number-3 { // the next number is the lowest that none of the child's is
			s.Inherit = append(s.Inherit, high)
		}
	})
	if exit, err := p.Wait(within(t)); err != nil || exit.Code != 7 {
		t.Errorf("ended as %v, %v", exit, err)
	}
	if line, err := said.ReadString('\n'); err != nil {
		t.Errorf("got %s, %v", line, err)
	}
}

// TestEnd: one that goes when asked, and one that does not, leave nothing of their group
// behind, also when another goroutine waits meanwhile.
func TestEnd(t *testing.T) {
	for role, want := range map[string]string{"obliging": "exited with code 0", "stubborn": "was ended by signal: killed"} {
		t.Run(role, func(t *testing.T) {
			testutil.Leaks(t)
			p, said := begin(t, role, nil)
			line, err := said.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			child, err := strconv.Atoi(strings.TrimSpace(line))
			if err != nil {
				t.Fatal(err)
			}
			waited := make(chan launch.Exit, 1)
			go func() {
				exit, _ := p.Wait(context.Background())
				waited <- exit
			}()
			grace := 20 * time.Second
			if role == "stubborn" {
				grace = 10 * time.Millisecond
			}
			exit := p.End(within(t), grace)
			if exit.String() != want || <-waited != exit {
				t.Errorf("ended as %v, want %q", exit, want)
			}
			awaitGone(t, child)
			if exit := p.End(within(t), time.Second); exit.String() != want {
				t.Errorf("the second time %v", exit)
			}
		})
	}
}

// awaitGone waits until pid runs no more. Its parent may not have reaped it.
func awaitGone(t *testing.T, pid int) {
	t.Helper()
	ctx := within(t)
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("process %d is left behind", pid)
		}
	}
}

// TestEndOfOneReleased: who is just ending a process ends it also where another gives it up.
func TestEndOfOneReleased(t *testing.T) {
	testutil.Leaks(t)
	p, said := begin(t, "stubborn", nil)
	if _, err := said.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	p.Release()
	p.End(within(t), 20*time.Second)
	awaitGone(t, p.PID())
	if _, err := p.Wait(within(t)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if _, err := syscall.Wait4(p.PID(), nil, 0, nil); err != nil {
		t.Error(err)
	}
}

// TestWaitEndsWithItsContext: and the process lives on.
func TestWaitEndsWithItsContext(t *testing.T) {
	testutil.Leaks(t)
	p, said := begin(t, "obliging", nil)
	if _, err := said.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := p.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if !p.Handle().Alive() {
		t.Error("it has ended")
	}
	p.End(within(t), 20*time.Second)
}

// TestWaitedForByAnother: a program that has the broker in it may wait for all its children.
func TestWaitedForByAnother(t *testing.T) {
	testutil.Leaks(t)
	p, err := launch.Start(launch.Spec{Path: "/bin/true"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Wait4(p.PID(), nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	exit, err := p.Wait(t.Context())
	if err != nil || exit == (launch.Exit{}) || !strings.Contains(exit.String(), "another was told how") {
		t.Errorf("it %v, %v", exit, err)
	}
}

// TestStartFails: the error names the program, and a directory that can't be gone to, and nothing is left open.
func TestStartFails(t *testing.T) {
	testutil.Leaks(t)
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no program\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	program, err := os.Open(text)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	for name, s := range map[string]launch.Spec{
		"missing":      {Path: filepath.Join(t.TempDir(), "none")},
		"nowhere":      {Path: "/proc/self/exe", Dir: filepath.Join(t.TempDir(), "nowhere")},
		"no format":    {Path: text, Program: program},
		"no directory": {Path: "/proc/self/exe", Program: self, Dir: text},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := launch.Start(s)
			if err == nil || !strings.Contains(err.Error(), s.Path) || !strings.Contains(err.Error(), s.Dir) {
				t.Errorf("got %v, %v", p, err)
			}
		})
	}
}

// TestRun: what Run writes comes before anything that the program does, and is not called
// for one that can't run; after its error the program has done nothing.
func TestRun(t *testing.T) {
	testutil.Leaks(t)
	for range 20 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		p, err := launch.Start(launch.Spec{Path: "/bin/echo", Args: []string{"second"}, Stdout: w, Run: func() error {
			_, err := w.WriteString("first ")
			return err
		}})
		if err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		said := make([]byte, 64)
		n, _ := io.ReadFull(r, said)
		_ = r.Close()
		if exit, err := p.Wait(context.Background()); string(said[:n]) != "first second\n" || exit != (launch.Exit{}) || err != nil {
			t.Errorf("%q, %v, %v", said[:n], exit, err)
		}
	}
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("no program"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := launch.Start(launch.Spec{Path: broken, Run: func() error {
		if !testutil.Portable { // where programs are not held it comes first
			t.Error("called")
		}
		return nil
	}})
	if !errors.Is(err, syscall.ENOEXEC) {
		t.Errorf("what is no program: %v", err)
	}
	mark, why := filepath.Join(t.TempDir(), "mark"), errors.New("no")
	_, err = launch.Start(launch.Spec{Path: "/bin/touch", Args: []string{mark}, Run: func() error { return why }})
	if _, missing := os.Stat(mark); !errors.Is(err, why) || missing == nil {
		t.Errorf("%v, and the mark: %v", err, missing)
	}
}

// TestOwnPID: a program finds its own id in its environment, beside what else is there, whether
// it could be held or not.
func TestOwnPID(t *testing.T) {
	testutil.Leaks(t)
	content, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o755, 0o755 | os.ModeSetgid} { // which can't be held
		path := filepath.Join(t.TempDir(), "sh")
		if err := errors.Join(os.WriteFile(path, content, 0o755), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		program, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer program.Close()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		p, err := launch.Start(launch.Spec{
			Program: program, Path: path, Args: []string{"-c", `echo "$1 $THE_PID $$ [$BEFORE] [$AFTER]"`, "any", "a b"}, Stdout: w,
			Env: []string{"BEFORE=THE_PID=0000000", "AFTER="}, OwnPID: "THE_PID",
		})
		_ = w.Close()
		if err != nil {
			t.Fatal(err)
		}
		said, err := bufio.NewReader(r).ReadString('\n')
		if want := fmt.Sprintf("a b %d %[1]d [THE_PID=0000000] []\n", p.PID()); said != want || err != nil {
			t.Errorf("%v: %q, %v; want %q", mode, said, err, want)
		}
		if exit, err := p.Wait(context.Background()); exit != (launch.Exit{}) || err != nil {
			t.Errorf("%v, %v", exit, err)
		}
	}
}

// TestProgramKeepsItsNumber: whatever the numbers of the descriptors that the child gets, and
// of those that are free, it is the program that runs.
func TestProgramKeepsItsNumber(t *testing.T) {
	testutil.Leaks(t)
	program, err := os.Open("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	const numbers = 60
	var low []*os.File // the numbers below those that the program may have; some of them are free when it starts
	last := null(t)
	for last.Fd() < numbers {
		low = append(low, last)
		last = null(t)
	}
	defer last.Close()
	for n, f := range low {
		if n < numbers/4 {
			_ = f.Close()
		}
		defer f.Close()
	}
	p, err := launch.Start(launch.Spec{Program: program, Path: "/bin/true", Inherit: slices.Repeat([]*os.File{last}, numbers/2)})
	if err != nil {
		t.Fatal(err)
	}
	if exit, err := p.Wait(context.Background()); exit != (launch.Exit{}) || err != nil {
		t.Errorf("%v, %v", exit, err)
	}
}

func null(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

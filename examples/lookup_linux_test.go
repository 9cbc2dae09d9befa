package examples_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/world"
)

// lookup is the program as somebody has it, with a directory to search.
type lookup struct {
	*world.Installed
	t    *testing.T
	root string
}

func installLookup(t *testing.T) *lookup {
	t.Helper()
	i, err := world.Install(filepath.Join(build(t, "lookup"), "lookup"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(i.Logs())
		}
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	})
	l := &lookup{Installed: i, t: t, root: t.TempDir()}
	l.write("verse.txt", "the quick brown fox\njumps over the lazy dog\n")
	return l
}

func (l *lookup) write(name, text string) {
	l.t.Helper()
	if err := os.WriteFile(filepath.Join(l.root, name), []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// command is a call that has not begun, of the program's file as it will be then.
func (l *lookup) command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	l.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, l.Bin, args...)
	cmd.Env, cmd.Dir = l.Env, l.root
	return cmd
}

// finds fails the test unless a call for the words prints the lines.
func (l *lookup) finds(words, lines string) {
	l.t.Helper()
	out, err := l.command(append([]string{"-timeout", "2m"}, strings.Fields(words)...)...).CombinedOutput()
	if err != nil || string(out) != lines {
		l.t.Errorf("lookup %s: %v, %q; want %q", words, err, out, lines)
	}
}

// daemons are the processes of the program that work in root; a broker works in /.
func (l *lookup) daemons() (daemons []int, all int) {
	l.t.Helper()
	pids, err := l.Processes()
	if err != nil {
		l.t.Error(err)
	}
	for _, pid := range pids {
		wd, _ := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "cwd"))
		if wd == l.root {
			daemons = append(daemons, pid)
		}
	}
	return daemons, len(pids)
}

// together makes 64 calls at once, and returns the different texts that they printed, and
// how many calls failed.
func (l *lookup) together(args ...string) (said []string, failed int) {
	var (
		calls sync.WaitGroup
		mu    sync.Mutex
		begin = make(chan struct{})
	)
	for range 64 {
		cmd := l.command(args...)
		calls.Go(func() {
			<-begin
			out, err := cmd.CombinedOutput()
			mu.Lock()
			defer mu.Unlock()
			// A busy machine's last ones come when three daemons have exited.
			said = append(said, strings.Replace(string(out), "it was started 3 times in 30s: ", "", 1))
			if err != nil {
				failed++
			}
		})
	}
	close(begin)
	calls.Wait()
	slices.Sort(said)
	return slices.Compact(said), failed
}

// TestLookup: the daemon knows what has changed since it began, and a call from another
// directory has another daemon.
func TestLookup(t *testing.T) {
	l := installLookup(t)
	l.finds("the", "verse.txt:1\nverse.txt:2\n")
	l.write("more.txt", "a dog,\nno fox\n")
	l.finds("dog", "more.txt:1\nverse.txt:2\n")
	l.finds("the dog", "verse.txt:2\n")
	if err := os.Remove(filepath.Join(l.root, "verse.txt")); err != nil {
		t.Fatal(err)
	}
	l.finds("fox", "more.txt:2\n")
	if daemons, all := l.daemons(); len(daemons) != 1 || all != 2 {
		t.Errorf("%d daemons, %d processes", len(daemons), all)
	}
	first := l.root
	l.root = t.TempDir()
	l.write("other.txt", "a fox of its own\n")
	l.finds("fox", "other.txt:1\n")
	l.root = first
	l.finds("fox", "more.txt:2\n")
	if daemons, all := l.daemons(); len(daemons) != 1 || all != 3 {
		t.Errorf("%d daemons of the first directory, %d processes", len(daemons), all)
	}
}

// TestLookupBuilds: two builds that are used at once have two daemons, and each call is
// answered by that of its own.
func TestLookupBuilds(t *testing.T) {
	l := installLookup(t)
	l.finds("fox", "verse.txt:1\n")
	old, _ := l.daemons()
	older := filepath.Join(l.Dir, "older")
	if err := os.Link(l.Bin, older); err != nil { // the same file: the same build
		t.Fatal(err)
	}
	if err := l.Replace(l.Bin, "another build"); err != nil {
		t.Fatal(err)
	}
	l.finds("fox", "verse.txt:1\n")
	var daemons []int
	testutil.WaitFor(t, "a broker and two daemons run", func() bool { // the broker gives way to one of the new build
		var all int
		daemons, all = l.daemons()
		return len(daemons) == 2 && all == 3
	})
	if len(old) != 1 {
		t.Fatalf("daemons %d before", old)
	}
	young := daemons[0] + daemons[1] - old[0]
	for _, call := range []struct {
		bin         string
		asks, spare int
	}{{l.Bin, young, old[0]}, {older, old[0], young}} {
		// A call that is answered while the other daemon is frozen was answered by its own.
		t.Run(filepath.Base(call.bin), func(t *testing.T) {
			freeze(t, call.spare)
			cmd := l.command("fox")
			cmd.Path = call.bin
			if out, err := cmd.CombinedOutput(); err != nil || string(out) != "verse.txt:1\n" {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	if now, _ := l.daemons(); !testutil.Portable && !slices.Equal(now, daemons) { // else the older one is not known to the newer broker
		t.Errorf("the daemons are %d, and were %d", now, daemons)
	}
}

// freeze stops a process until thaw, or the test's end.
func freeze(t *testing.T, pid int) (thaw func()) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	thaw = sync.OnceFunc(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	t.Cleanup(thaw)
	return thaw
}

// TestLookupAtOnce: 64 first calls start one broker and one daemon.
func TestLookupAtOnce(t *testing.T) {
	l := installLookup(t)
	said, failed := l.together("-timeout", "2m", "lazy")
	daemons, all := l.daemons()
	if failed > 0 || !slices.Equal(said, []string{"verse.txt:2\n"}) || len(daemons) != 1 || all != 2 {
		t.Errorf("%d calls failed, and said %q; %d daemons, %d processes", failed, said, len(daemons), all)
	}
}

// TestLookupKilled: the call after the daemon was killed is answered by a new one.
func TestLookupKilled(t *testing.T) {
	l := installLookup(t)
	l.finds("fox", "verse.txt:1\n")
	first, _ := l.daemons()
	if len(first) != 1 {
		t.Fatalf("%d daemons", len(first))
	}
	if err := syscall.Kill(first[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	l.finds("fox", "verse.txt:1\n")
	if second, all := l.daemons(); len(second) != 1 || second[0] == first[0] || all != 2 {
		t.Errorf("daemons %d, then %d; %d processes", first, second, all)
	}
}

// TestLookupFrozen: while the daemon is frozen a call says so within its time, and the
// daemon answers when it goes on.
func TestLookupFrozen(t *testing.T) {
	l := installLookup(t)
	l.finds("fox", "verse.txt:1\n")
	daemons, _ := l.daemons()
	if len(daemons) != 1 {
		t.Fatalf("%d daemons", len(daemons))
	}
	thaw := freeze(t, daemons[0])
	began := time.Now()
	out, err := l.command("-timeout", "3s", "fox").CombinedOutput()
	took := time.Since(began)
	t.Logf("after %v: %s", took, out)
	if err == nil || took > time.Minute || !strings.Contains(string(out), "Client.Timeout exceeded") {
		t.Errorf("%v after %v: %s", err, took, out)
	}
	thaw()
	l.finds("fox", "verse.txt:1\n")
	if now, _ := l.daemons(); !slices.Equal(now, daemons) {
		t.Errorf("the daemon is %d, and was %d", now, daemons)
	}
}

// TestLookupExits: where the daemon exits at its start, 64 callers are told the same: what
// it said, and where its log is.
func TestLookupExits(t *testing.T) {
	l := installLookup(t)
	l.root = t.TempDir()
	said, failed := l.together("fox")
	if failed != 64 || len(said) != 1 {
		t.Fatalf("%d of 64 failed, and said %q", failed, said)
	}
	for _, part := range []string{"exited with code 1 before it was ready", "no text to index", "its log is " + l.Dir} {
		if !strings.Contains(said[0], part) {
			t.Errorf("%q is not in %q", part, said[0])
		}
	}
	l.write("late.txt", "a fox\n") // the failure is no lasting one
	testutil.WaitFor(t, "the next daemon serves", func() bool {
		out, err := l.command("fox").CombinedOutput()
		return err == nil && string(out) == "late.txt:1\n"
	})
}

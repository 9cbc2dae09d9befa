package broker_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/internal/logfile"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestKeptOpen: the executable and the log of a service with a process for each connection
// stay open from one to the next, for as long as they are what its definition means, and
// somebody comes. What is put in their place is what the next process has.
func TestKeptOpen(t *testing.T) {
	s := inetd(t, "", nil)
	log := filepath.Join(s.dir, "logs", demo+".log")
	program := filepath.Join(s.dir, "program")
	install := func(text string) {
		t.Helper()
		if err := os.WriteFile(program+".new", []byte("#!/bin/sh\n"+text), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(program+".new", program); err != nil {
			t.Fatal(err)
		}
	}
	s.write(demo+".toml", fmt.Sprintf("binary_path = %q\n[start]\nmode = \"inetd\"\n", program))
	says := func(want string) {
		t.Helper()
		c := s.mustDialWith("")
		got, err := bufio.NewReader(c).ReadString('\n')
		if got != want+"\n" || err != nil {
			t.Fatalf("it says %q, %v, want %q", got, err, want)
		}
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
		testutil.WaitFor(t, "no process is left", func() bool { return s.Processes() == 0 })
	}
	// settle has connections made until what they have stays open.
	settle := func(want string) any {
		t.Helper()
		testutil.WaitFor(t, "it is kept open", func() bool {
			before := s.Kept(demo)
			says(want)
			return before != nil && s.Kept(demo) == before
		})
		return s.Kept(demo)
	}

	install("echo first; echo logged >&2; cat")
	first := settle("first")
	says("first")
	if s.Kept(demo) != first {
		t.Error("it was opened again")
	}
	install("echo second; echo logged >&2; cat")
	says("second")
	second := settle("second")
	if second == first {
		t.Error("the executable of before is kept open")
	}

	if err := os.Remove(log); err != nil {
		t.Fatal(err)
	}
	says("second")
	if text, err := os.ReadFile(log); string(text) != "logged\n" || err != nil {
		t.Errorf("the new log: %q, %v", text, err)
	}
	settle("second")

	if err := os.WriteFile(log, []byte(strings.Repeat("x", logfile.Max+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	says("second")
	if text, err := os.ReadFile(log); string(text) != "logged\n" || err != nil { // what was there before has been moved away
		t.Errorf("%d bytes in the log, %v", len(text), err)
	}
	settle("second")

	leads := func(to string) (n int) {
		all, err := filepath.Glob("/proc/self/fd/*")
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range all {
			if target, err := os.Readlink(fd); err == nil && target == to {
				n++
			}
		}
		return n
	}
	if n, m := leads(program), leads(log); n != 1 || m != 1 {
		t.Errorf("the executable is open %d times, the log %d times", n, m)
	}
	s.NobodyCame()
	if n, m := leads(program), leads(log); n != 0 || m != 0 || s.Kept(demo) != nil {
		t.Errorf("the executable is open %d times when nobody comes, the log %d times", n, m)
	}
	settle("second")
	s.stop()
	if err := s.end(); err != nil {
		t.Error(err)
	}
	if n, m := leads(program), leads(log); n != 0 || m != 0 {
		t.Errorf("the executable is open %d times behind the end, the log %d times", n, m)
	}
}

// TestKeptLogIsTheOneThatIsOpen: a log that was replaced between its opening and the moment in
// which it is kept is not written to by the next process: nobody would find it.
func TestKeptLogIsTheOneThatIsOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log, err := logfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if !broker.Logged(log, path) {
		t.Error("the log at its path is opened again")
	}
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if broker.Logged(log, path) {
		t.Error("what is open is not what is at the path")
	}
}

// TestKeptExecutableMoves: links may lead to another name of the same file, as where versions
// share what they have in common; the next process is started at that name, for it looks for
// its own files beside.
func TestKeptExecutableMoves(t *testing.T) {
	s := inetd(t, "", nil)
	prints, err := exec.LookPath("readlink")
	if err == nil {
		prints, err = filepath.EvalSymlinks(prints)
	}
	content, readErr := os.ReadFile(prints)
	if err := errors.Join(err, readErr); err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.EvalSymlinks(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(prints)
	first, second, current := filepath.Join(dir, "first"), filepath.Join(dir, "second"), filepath.Join(dir, "current")
	if err := errors.Join(
		os.Mkdir(first, 0o700), os.Mkdir(second, 0o700),
		os.WriteFile(filepath.Join(first, name), content, 0o700),
		os.Link(filepath.Join(first, name), filepath.Join(second, name)),
		os.Symlink(first, current),
	); err != nil {
		t.Fatal(err)
	}
	s.write(demo+".toml", fmt.Sprintf("binary_path = %q\n[start]\nmode = \"inetd\"\nargs = [\"/proc/self/exe\"]\n", filepath.Join(current, name)))
	says := func() string {
		t.Helper()
		c := s.mustDialWith("")
		defer c.Close()
		got, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			t.Fatalf("got %q, %v", got, err)
		}
		return filepath.Dir(got)
	}
	testutil.WaitFor(t, "it is kept open", func() bool {
		before := s.Kept(demo)
		if got := says(); got != first {
			t.Fatalf("it runs in %s, want %s", got, first)
		}
		return before != nil && s.Kept(demo) == before
	})
	if err := errors.Join(os.Symlink(second, current+".new"), os.Rename(current+".new", current)); err != nil {
		t.Fatal(err)
	}
	if got := says(); got != second {
		t.Errorf("it runs in %s, want %s", got, second)
	}
}

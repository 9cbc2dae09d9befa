package windows

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/test/windows/fixture"
)

// strayVariable has the number of a handle that a process could inherit, and must not.
const strayVariable = "USHER_TEST_STRAY"

// beProgram makes of this test binary what its first argument says, where `usher run` has
// started it. Of the usher that is about to, it makes one with more to inherit.
func beProgram() {
	if os.Getenv(testutil.HelperVariable) == "usher" {
		leaveStray()
		return
	}
	programs := map[string]func() error{"heir": beHeir, "filter": beFilter, "stays": beStaying}
	if len(os.Args) < 2 || programs[os.Args[1]] == nil {
		return
	}
	if err := programs[os.Args[1]](); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
	os.Exit(0)
}

func leaveStray() {
	if job, err := windows.CreateJobObject(nil, nil); err == nil {
		_ = windows.SetHandleInformation(job, windows.HANDLE_FLAG_INHERIT, windows.HANDLE_FLAG_INHERIT)
		_ = os.Setenv(strayVariable, strconv.Itoa(int(job)))
	}
}

// beHeir asks once over the connection whose handle it has inherited, and ends with the code
// that is its argument.
func beHeir() error {
	handle, err := strconv.ParseUint(os.Getenv("USHER_HANDLE"), 10, 64)
	if err != nil {
		return err
	}
	c := os.NewFile(uintptr(handle), "connection")
	if err := c.SetDeadline(time.Now().Add(fixture.Patience)); err != nil {
		return fmt.Errorf("the connection can't be bound: %w", err)
	}
	if _, err := io.WriteString(c, "heir\n"); err != nil {
		return err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err
	}
	stray, err := strconv.Atoi(os.Getenv(strayVariable))
	if err != nil {
		return err
	}
	if windows.TerminateJobObject(windows.Handle(stray), 0) == nil {
		return errors.New("inherited more than its connection")
	}
	fmt.Print(answer)
	code, _ := strconv.Atoi(os.Args[2])
	os.Exit(code)
	return nil
}

// long is more than the pipes on the way hold.
var long = strings.Repeat("x", 60<<10)

// beFilter asks many times over its standard input and output, and then once more, whose
// answer it does not await.
func beFilter() error {
	if v := os.Getenv("USHER_HANDLE"); v != "" {
		return fmt.Errorf("told of handle %s", v)
	}
	const requests = 16
	go func() {
		for range requests {
			fmt.Println(long)
		}
		fmt.Println("filter")
	}()
	in := bufio.NewReader(os.Stdin)
	for range requests {
		if _, err := in.ReadString('\n'); err != nil {
			return err
		}
	}
	answer, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	fmt.Println("last words")
	fmt.Fprint(os.Stderr, answer)
	os.Exit(5)
	return nil
}

// beStaying stays until it is ended, or has been asked to end by a key twice.
func beStaying() error {
	told := make(chan os.Signal, 1)
	signal.Notify(told, os.Interrupt)
	fmt.Println("stays as", os.Getpid())
	time.AfterFunc(5*time.Minute, func() { os.Exit(1) })
	<-told
	fmt.Println("told once")
	<-told
	os.Exit(8)
	return nil
}

// own is this executable.
func own(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// running starts usher run, on a console of its own.
func running(t *testing.T, args ...string) *fixture.Process {
	t.Helper()
	return fixture.StartOnConsole(t, "usher", append([]string{"run"}, args...))
}

// TestRun: a program inherits the connection, and nothing else; its exit code is usher's.
func TestRun(t *testing.T) {
	fixture.Surroundings(t)
	fixture.Broker(t)
	lines := registered(t, role{})
	for _, where := range []string{fixture.Service, fixture.Service + "@" + fixture.Version} {
		p := running(t, where, "--", own(t), "heir", "7")
		if got := p.Until("heir"); got != fixture.Answer("heir", lines.PID(), true) {
			t.Errorf("answered %q", got)
		}
		if code := p.Ends(); code != 7 {
			t.Errorf("ended with %d", code)
		}
	}
	t.Setenv("USHER_HANDLE", "99") // of a connection of this process'
	p := running(t, "--stdio", fixture.Service, "--", own(t), "filter")
	if got := p.Until("filter"); got != fixture.Answer("filter", lines.PID(), true) {
		t.Errorf("answered %q", got)
	}
	if code := p.Ends(); code != 5 {
		t.Errorf("ended with %d", code)
	}
	lines.Until("ran last words") // though the program had ended
}

// TestRunFails: usher's own exit codes.
func TestRunFails(t *testing.T) {
	fixture.Surroundings(t)
	fixture.Broker(t)
	registered(t, role{})
	dir := fixture.TempDir(t)
	text := dir + `\text.exe`
	if err := os.WriteFile(text, []byte("no program"), 0o700); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[int][]string{
		125: {"other@1.0.0", "--", own(t)},
		126: {fixture.Service, "--", text},
		127: {fixture.Service, "--", dir + `\none.exe`},
	} {
		if code := running(t, args...).Ends(); code != want {
			t.Errorf("usher run %q ended with %d, want %d", args, code, want)
		}
	}
}

// staying is a program that usher runs, once it stays.
func staying(t *testing.T) (usher *fixture.Process, program *peer.Process) {
	t.Helper()
	fixture.Surroundings(t)
	fixture.Broker(t)
	registered(t, role{})
	usher = running(t, fixture.Service, "--", own(t), "stays")
	var pid int
	if _, err := fmt.Sscanf(usher.Until("stays as"), "stays as %d", &pid); err != nil {
		t.Fatal(err)
	}
	program, err := peer.OpenPID(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(program.Close)
	return usher, program
}

// TestRunEnds: a program ends with the usher that runs it, as it would if it were the same
// process.
func TestRunEnds(t *testing.T) {
	usher, program := staying(t)
	usher.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), fixture.Patience)
	defer cancel()
	if err := program.Wait(ctx); err != nil {
		t.Error(err)
	}
}

// TestRunLeavesKeys to the program: usher waits for what that makes of them.
func TestRunLeavesKeys(t *testing.T) {
	usher, _ := staying(t)
	pressCtrlC(t, usher)
	usher.Until("told once")
	pressCtrlC(t, usher)
	if code := usher.Ends(); code != 8 {
		t.Errorf("ended with %d", code)
	}
}

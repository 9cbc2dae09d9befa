package windows

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/test/windows/fixture"
)

var (
	kernel32           = windows.NewLazySystemDLL("kernel32.dll")
	freeConsole        = kernel32.NewProc("FreeConsole")
	attachConsole      = kernel32.NewProc("AttachConsole")
	setCtrlHandler     = kernel32.NewProc("SetConsoleCtrlHandler")
	createRemoteThread = kernel32.NewProc("CreateRemoteThread")
	ctrlRoutine        = windows.NewLazySystemDLL("kernelbase.dll").NewProc("CtrlRoutine")
)

// keys are the ways in which a console asks its programs to end.
var keys = map[string]func(t *testing.T, p *fixture.Process){
	"Ctrl-C":            pressCtrlC,
	"Ctrl-Break":        func(t *testing.T, p *fixture.Process) { deliver(t, p, windows.CTRL_BREAK_EVENT) },
	"end of the window": func(t *testing.T, p *fixture.Process) { deliver(t, p, windows.CTRL_CLOSE_EVENT) },
}

// TestBrokerEnds by the verb and by the keys of its console: what is under way comes to its
// end, what was handed over lives on, and the broker has ended well.
func TestBrokerEnds(t *testing.T) {
	ways := maps.Clone(keys)
	ways["usher shutdown"] = func(t *testing.T, _ *fixture.Process) {
		told := make(chan error, 1)
		go func() {
			_, err := fixture.Run("shutdown")
			told <- err
		}()
		t.Cleanup(func() {
			if err := <-told; err != nil {
				t.Error(err)
			}
		})
	}
	for name, end := range ways {
		t.Run(name, func(t *testing.T) {
			fixture.Surroundings(t)
			serving := fixture.StartOnConsole(t, "usher", fixture.Serve("--drain-timeout", fixture.Patience.String()))
			serving.Until(fixture.Serving)
			lines := registered(t, role{})
			_, c, err := fixture.Ask(fixture.Options(), "first", false)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			slow := registered(t, role{Point: failpoint.BackendChecked, Freeze: true})
			answered := asked("under way")
			slow.Until("at ")
			silent := silence(t)
			end(t, serving)
			serving.Until(`"broker.draining"`)
			silent()
			slow.Tell("go on")
			if got, want := <-answered, fixture.Answer("under way", slow.PID(), true); got != want {
				t.Errorf("who was under way was answered %q, not %q", got, want)
			}
			if code := serving.Ends(); code != 0 {
				t.Errorf("it ended with %d", code)
			}
			if serving.Mentioned(`"accept.failed"`) > 0 {
				t.Error("that nobody connects any more was a failure to accept")
			}
			if _, err := io.WriteString(c, "second\n"); err != nil {
				t.Fatal(err)
			}
			if answer, err := fixture.ReadLine(c); answer != fixture.Answer("second", lines.PID(), true) {
				t.Errorf("%q, %v", answer, err)
			}
			if _, err := client.Dial(t.Context(), fixture.Options()); !errors.Is(err, client.ErrBrokerUnreachable) {
				t.Errorf("dialled: %v", err)
			}
		})
	}
}

// silence connects to the broker and says nothing. What it returns waits until that has given up
// to wait for it, as one does that has been draining for a while.
func silence(t *testing.T) (gone func()) {
	t.Helper()
	c, err := sock.Dial(os.Getenv(endpoint.SocketVariable))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return func() {
		t.Helper()
		_ = c.SetReadDeadline(time.Now().Add(fixture.Patience))
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Errorf("who says nothing: %v", err)
		}
	}
}

// TestBackendEnds by the keys of its console: it serves the connection that it has to its end,
// others get the new ones, and it has ended well.
func TestBackendEnds(t *testing.T) {
	for name, press := range keys {
		t.Run(name, func(t *testing.T) {
			fixture.Surroundings(t)
			fixture.Broker(t)
			other := registered(t, role{})
			ending := fixture.StartOnConsole(t, "backend", role{Point: fixture.PointRead, Freeze: true})
			ending.Until("registered")
			answered := asked("under way")
			ending.Until("at ")
			press(t, ending)
			ending.Until("draining")
			answer, c, err := fixture.Ask(fixture.Options(), "next", false)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
			if want := fixture.Answer("next", other.PID(), true); answer != want {
				t.Errorf("who came next was answered %q, not %q", answer, want)
			}
			ending.Tell("go on")
			if got, want := <-answered, fixture.Answer("under way", ending.PID(), true); got != want {
				t.Errorf("who was under way was answered %q, not %q", got, want)
			}
			if code := ending.Ends(); code != 0 {
				t.Errorf("it ended with %d", code)
			}
		})
	}
}

// asked asks for one line, and sends the answer, or why there is none.
func asked(line string) <-chan string {
	answered := make(chan string, 1)
	go func() {
		answer, c, err := fixture.Ask(fixture.Options(), line, true)
		if err != nil {
			answer = err.Error()
		} else {
			_ = c.Close()
		}
		answered <- answer
	}()
	return answered
}

// pressCtrlC presses it on the console of p, where nobody else is.
func pressCtrlC(t *testing.T, p *fixture.Process) {
	t.Helper()
	keys := fixture.StartOnConsole(t, "keys", p.PID()) // else it has a group of its own, which is all that Wine asks
	keys.Until("pressed")
	keys.Ends()
}

// beKeys presses Ctrl-C on the console of the process that it is told.
func beKeys() error {
	var pid uint32
	if err := fixture.Role(&pid); err != nil {
		return err
	}
	if ok, _, err := freeConsole.Call(); ok == 0 { // its own
		return err
	}
	if ok, _, err := attachConsole.Call(uintptr(pid)); ok == 0 {
		return fmt.Errorf("console of process %d: %w", pid, err)
	}
	if ok, _, err := setCtrlHandler.Call(0, 1); ok == 0 { // ignores it itself
		return err
	}
	if err := windows.GenerateConsoleCtrlEvent(windows.CTRL_C_EVENT, 0); err != nil {
		return err
	}
	fmt.Println("pressed")
	return nil
}

// deliver has an event of the console come to p as the system does it: by a thread in p that
// begins at CtrlRoutine. Wine 8.0 ends a process at Ctrl-Break without asking it, and its
// windows can't be closed without a screen.
func deliver(t *testing.T, p *fixture.Process, event uintptr) {
	t.Helper()
	const access = windows.PROCESS_CREATE_THREAD | windows.PROCESS_QUERY_INFORMATION |
		windows.PROCESS_VM_OPERATION | windows.PROCESS_VM_READ | windows.PROCESS_VM_WRITE
	h, err := windows.OpenProcess(access, false, uint32(p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = windows.CloseHandle(h) }()
	thread, _, err := createRemoteThread.Call(uintptr(h), 0, 0, ctrlRoutine.Addr(), event, 0, 0)
	if thread == 0 {
		t.Fatal(err)
	}
	_ = windows.CloseHandle(windows.Handle(thread))
}

package windows

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/test/windows/fixture"
)

// TestService: the service manager starts a broker, and stops it; what is under way then comes
// to its end first.
func TestService(t *testing.T) {
	fixture.Surroundings(t)
	s := service(t)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	fixture.Until(t, "it runs", func() bool { return state(t, s).State == svc.Running })
	if own, other := userOf(t, os.Getpid()), userOf(t, int(state(t, s).ProcessId)); own != other {
		t.Skipf("it runs as %s, who serves nobody else", other) // as on Windows: it has no account of its own
	}
	slow := registered(t, role{Point: failpoint.BackendChecked, Freeze: true})
	answered := asked("under way")
	slow.Until("at ")
	silent := silence(t)
	if _, err := s.Control(svc.Stop); err != nil {
		t.Fatal(err)
	}
	fixture.Until(t, "it drains", func() bool {
		said, err := fixture.Run("events", "--file", eventsFile())
		return err == nil && strings.Contains(said, "broker.draining")
	})
	silent()
	if now := state(t, s); now.State != svc.StopPending {
		t.Errorf("while it drains its state is %+v", now)
	}
	slow.Tell("go on")
	if got, want := <-answered, fixture.Answer("under way", slow.PID(), true); got != want {
		t.Errorf("who was under way was answered %q, not %q", got, want)
	}
	fixture.Until(t, "it has stopped", func() bool { return state(t, s).State == svc.Stopped })
	if now := state(t, s); now.Win32ExitCode != 0 || now.ServiceSpecificExitCode != 0 {
		t.Errorf("it has ended as %+v", now)
	}
}

// eventsFile is where the service keeps what nobody reads from its standard error.
func eventsFile() string { return filepath.Join(os.Getenv("LOCALAPPDATA"), "events") }

// service is a broker that the service manager is to start, of the test's surroundings.
func service(t *testing.T) *mgr.Service {
	t.Helper()
	m, err := mgr.Connect()
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		t.Skipf("service manager: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Disconnect() })
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	pipe := os.Getenv(endpoint.SocketVariable)
	args := fixture.Serve("--socket", pipe, "--service-def-dir", os.Getenv(endpoint.ServiceDefVariable),
		"--events", eventsFile(), "--drain-timeout", fixture.Patience.String())
	s, err := m.CreateService(pipe[len(`\\.\pipe\`):], own, mgr.Config{StartType: mgr.StartManual}, append([]string{fixture.Program}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if now, err := s.Query(); err == nil && now.ProcessId != 0 { // the test has failed
			if p, err := os.FindProcess(int(now.ProcessId)); err == nil {
				_ = p.Kill()
			}
		}
		if err := errors.Join(s.Delete(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func state(t *testing.T, s *mgr.Service) svc.Status {
	t.Helper()
	now, err := s.Query()
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// userOf is the SID of a process' user.
func userOf(t *testing.T, pid int) string {
	t.Helper()
	process, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = windows.CloseHandle(process) }()
	var token windows.Token
	if err := windows.OpenProcessToken(process, windows.TOKEN_QUERY, &token); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = token.Close() }()
	user, err := token.GetTokenUser()
	if err != nil {
		t.Fatal(err)
	}
	return user.User.Sid.String()
}

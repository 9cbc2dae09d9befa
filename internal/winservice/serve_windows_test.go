package winservice

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows/svc"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestCreation: a path with spaces stays one argument, through cmd.exe and the manager.
func TestCreation(t *testing.T) {
	const want = `sc create usher binPath= "\"C:\Program Files\usher.exe\" serve --socket \\.\pipe\its" start= auto obj= "%USERDOMAIN%\%USERNAME%" password= PASSWORD`
	if got := Creation("usher", []string{`C:\Program Files\usher.exe`, "serve", "--socket", `\\.\pipe\its`}); got != want {
		t.Errorf("%s", got)
	}
}

// TestStop: the service is told to end, and has stopped when it has ended.
func TestStop(t *testing.T) {
	for _, how := range []svc.Cmd{svc.Stop, svc.Shutdown} {
		told, drained := make(chan struct{}), make(chan struct{})
		s := &service{ctx: t.Context(), serve: func(ctx context.Context) error {
			<-ctx.Done()
			close(told)
			<-drained
			return nil
		}}
		asked, says := make(chan svc.ChangeRequest), make(chan svc.Status)
		stopped := make(chan uint32, 1)
		go func() {
			_, code := s.Execute(nil, asked, says)
			stopped <- code
		}()
		if now := <-says; now.State != svc.Running || now.Accepts != svc.AcceptStop|svc.AcceptShutdown {
			t.Errorf("it says %+v", now)
		}
		asked <- svc.ChangeRequest{Cmd: svc.Interrogate}
		if now := <-says; now.State != svc.Running {
			t.Errorf("asked, it says %+v", now)
		}
		asked <- svc.ChangeRequest{Cmd: how}
		if now := <-says; now.State != svc.StopPending || now.WaitHint == 0 {
			t.Errorf("to be stopped, it says %+v", now)
		}
		<-told
		asked <- svc.ChangeRequest{Cmd: svc.Interrogate} // still there, while it drains
		if now := <-says; now.State != svc.StopPending {
			t.Errorf("while it drains it says %+v", now)
		}
		close(drained)
		if code := <-stopped; code != 0 || s.err != nil {
			t.Errorf("it has stopped with %d, %v", code, s.err)
		}
	}
}

// TestFails: an error is the service's exit code.
func TestFails(t *testing.T) {
	failed := errors.New("no room")
	s := &service{ctx: t.Context(), serve: func(context.Context) error { return failed }}
	says := make(chan svc.Status, 1)
	if own, code := s.Execute(nil, nil, says); !own || code != 1 || s.err != failed {
		t.Errorf("%v, %d, %v", own, code, s.err)
	}
}

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func() error{
		"starter": func() error {
			cmd := exec.Command(os.Getenv(programVariable))
			cmd.Env = append(os.Environ(), testutil.HelperVariable+"=serves")
			cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
			return cmd.Run()
		},
		"serves": func() error {
			return Serve(context.Background(), func(context.Context) error {
				fmt.Println("serves")
				return nil
			})
		},
	})
}

const programVariable = "USHER_TEST_PROGRAM" // what the starter starts

// TestNamesake: a process that was started by another program of the manager's name serves as it
// is.
func TestNamesake(t *testing.T) {
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(own)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "usher")
	if err != nil {
		t.Fatal(err)
	}
	namesake := filepath.Join(dir, "Services.exe")
	t.Cleanup(func() { // t.TempDir is removed by calls that Wine has not
		if err := errors.Join(os.Remove(namesake), os.Remove(dir)); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(namesake, text, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := testutil.Helper(t, "starter")
	cmd.Path = namesake
	cmd.Env = append(cmd.Env, programVariable+"="+own)
	said, err := cmd.Output() // Wine may take ten seconds for it
	if got := strings.TrimSpace(string(said)); got != "serves" || err != nil {
		t.Errorf("it said %q, %v", got, err)
	}
}

// TestConsole: a process that the manager has not started serves as it is.
func TestConsole(t *testing.T) {
	called := errors.New("called")
	if err := Serve(t.Context(), func(context.Context) error { return called }); err != called {
		t.Error(err)
	}
}

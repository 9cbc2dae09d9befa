//go:build unix

package endpoint

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// starterEnv makes the test binary play one broker that starts, again and again.
const starterEnv = "USHER_TEST_STARTER"

func TestMain(m *testing.M) {
	if path := os.Getenv(starterEnv); path != "" {
		starter(path, os.Stdin, os.Stdout)
		return
	}
	os.Exit(m.Run())
}

// starter binds on "go" and answers "own", "lost" or "error …". On "crash" it
// drops the listener and the lock as a killed process would: the socket file and
// the pid in the lock file stay.
func starter(path string, in io.Reader, out io.Writer) {
	var own *Binding
	for lines := bufio.NewScanner(in); lines.Scan(); {
		answer := "ok"
		switch lines.Text() {
		case "go":
			b, err := Bind(path)
			var inUse *InUseError
			switch {
			case err == nil:
				own, answer = b, "own"
			case errors.As(err, &inUse):
				answer = "lost"
			default:
				answer = "error " + err.Error()
			}
		case "crash":
			if own != nil {
				own.Listener.Close()
				own.lock.file.Close()
				own = nil
			}
		}
		fmt.Fprintln(out, answer)
	}
}

// TestStartersOnAStaleSocket is fault 26: several starters find the socket of a
// dead broker at the same moment, and exactly one becomes the owner.
func TestStartersOnAStaleSocket(t *testing.T) {
	const processes = 4
	rounds := 1500
	if testing.Short() {
		rounds = 20
	}
	path := filepath.Join(shortDir(t), "s.sock")
	makeStale(t, path)

	starters := make([]*starterProcess, processes)
	for i := range starters {
		starters[i] = startStarter(t, path)
	}
	for round := range rounds {
		for _, s := range starters {
			s.send(t, "go")
		}
		owners := 0
		for _, s := range starters {
			switch answer := s.receive(t); answer {
			case "own":
				owners++
			case "lost":
			default:
				t.Fatalf("round %d: %s", round, answer)
			}
		}
		if owners != 1 {
			t.Fatalf("round %d: %d owners", round, owners)
		}
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatalf("round %d: the owner's socket does not answer: %v", round, err)
		}
		conn.Close()
		for _, s := range starters {
			s.send(t, "crash")
			s.receive(t)
		}
	}
}

type starterProcess struct {
	in  io.Writer
	out *bufio.Scanner
}

func startStarter(t *testing.T, path string) *starterProcess {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	// The race detector lingers for a second at the end of a process otherwise.
	cmd.Env = append(os.Environ(), starterEnv+"="+path, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("starter: %v", err)
		}
	})
	return &starterProcess{in: in, out: bufio.NewScanner(out)}
}

func (s *starterProcess) send(t *testing.T, line string) {
	t.Helper()
	if _, err := fmt.Fprintln(s.in, line); err != nil {
		t.Fatal(err)
	}
}

func (s *starterProcess) receive(t *testing.T) string {
	t.Helper()
	if !s.out.Scan() {
		t.Fatalf("starter went away: %v", s.out.Err())
	}
	return strings.TrimSpace(s.out.Text())
}

package windows

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/test/windows/fixture"
)

// proxy is usher connect between two pipes.
type proxy struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *os.File
}

func connecting(t *testing.T, service string) *proxy {
	t.Helper()
	p := &proxy{cmd: exec.Command(own(t), fixture.Program, "connect", service)}
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, into, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out, p.cmd.Stdout, p.cmd.Stderr = out, into, os.Stderr
	err = p.cmd.Start()
	_ = into.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = out.Close()
		_ = p.cmd.Process.Kill()
	})
	return p
}

func (p *proxy) ends(t *testing.T, want int) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		var exit *exec.ExitError
		if code := p.cmd.ProcessState.ExitCode(); code != want || err != nil && !errors.As(err, &exit) {
			t.Errorf("ended with %d, %v, want %d", code, err, want)
		}
	case <-time.After(fixture.Patience):
		t.Fatal("it has not ended")
	}
}

// TestConnect: what is asked before the end of standard input is answered behind it, for as
// long as somebody reads.
func TestConnect(t *testing.T) {
	fixture.Surroundings(t)
	fixture.Broker(t)
	lines := registered(t, role{})
	for _, how := range []string{"nobody reads", "the service ends"} {
		p := connecting(t, fixture.Service+"@"+fixture.Version)
		if _, err := io.WriteString(p.in, "request\n"); err != nil {
			t.Fatal(err)
		}
		_ = p.in.Close()
		answer, err := bufio.NewReader(p.out).ReadString('\n')
		if want := fixture.Answer("request", lines.PID(), true); strings.TrimSpace(answer) != want || err != nil {
			t.Errorf("answered %q, %v; want %q", answer, err, want)
		}
		if how == "nobody reads" {
			_ = p.out.Close()
		} else {
			lines.Kill()
		}
		p.ends(t, 0)
	}
	connecting(t, "other@1.0.0").ends(t, 1)
}

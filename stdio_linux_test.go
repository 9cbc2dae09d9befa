package usher_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestStdioSaysWhatFailed: an output that takes nothing is not taken for the daemon's end.
func TestStdioSaysWhatFailed(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	cmd := install(t).command("stdio")
	cmd.Stdin, cmd.Stdout = strings.NewReader("x\n"), full
	var complaint strings.Builder
	cmd.Stderr = &complaint
	if err := cmd.Run(); err == nil || !strings.Contains(complaint.String(), "standard output: ") {
		t.Errorf("%v: %s", err, &complaint)
	}
}

// TestStdio: input and output are the daemon's, to the end of both.
func TestStdio(t *testing.T) {
	i := install(t)
	cmd := i.command("stdio")
	cmd.Stdin = strings.NewReader("one\ntwo\n")
	out, err := cmd.Output()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil || len(lines) != 2 || field(lines[0], "said") != "one" || field(lines[1], "said") != "two" {
		t.Errorf("%v: %q", err, out)
	}
}

// staying is a call that keeps its connection.
type staying struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func (i *installed) stays(env ...string) *staying {
	i.t.Helper()
	cmd := i.command("stays", env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		i.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		i.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		i.t.Fatal(err)
	}
	return &staying{i.t, cmd, in, bufio.NewReader(out)}
}

func (s *staying) says(line string) string {
	s.t.Helper()
	if _, err := fmt.Fprintln(s.in, line); err != nil {
		s.t.Fatal(err)
	}
	answer, err := s.out.ReadString('\n')
	if err != nil {
		s.t.Fatalf("%v: %q", err, answer)
	}
	return answer
}

func (s *staying) ends() {
	s.t.Helper()
	_ = s.in.Close()
	if err := s.cmd.Wait(); err != nil {
		s.t.Error(err)
	}
}

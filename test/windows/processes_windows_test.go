package windows

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/seed-7265657e/usher/internal/cli"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// patience bounds what must happen; nothing that passes takes a part of it.
const patience = 40 * time.Second

// surroundings gives the test a broker's name and directories of its own, and defines the
// service, which is this test binary.
func surroundings(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "usher")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeAll(t, dir) })
	var random [8]byte
	_, _ = rand.Read(random[:])
	t.Setenv(endpoint.SocketVariable, `\\.\pipe\usher-test-`+hex.EncodeToString(random[:]))
	t.Setenv(endpoint.ServiceDefVariable, filepath.Join(dir, "services"))
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	usher(t, "service", "add", service, "--binary", own)
}

// removeAll is os.RemoveAll by the calls that Wine has.
func removeAll(t *testing.T, dir string) {
	var all []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		all = append(all, path)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for _, path := range slices.Backward(all) {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// usher runs it within this process.
func usher(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := cli.Run(context.Background(), args, strings.NewReader(""), &out, &errs); code != 0 {
		t.Fatalf("usher %q: %d: %s", args, code, errs.String())
	}
	return out.String()
}

// process is one that the test has started.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	said chan string // its lines; closed at the end
	mu   sync.Mutex
	all  []string
	wait func() error
}

func start(t *testing.T, name string, r role) *process {
	t.Helper()
	p, err := begin(t, name, r)
	for tries := 1; errors.Is(err, windows.ERROR_INTERNAL_ERROR) && tries < 5; tries++ {
		t.Logf("once more: %v", err) // Wine's word for a process that has ended before it ran
		p, err = begin(t, name, r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func begin(t *testing.T, name string, r role) (*process, error) {
	cmd := testutil.Helper(t, name)
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	cmd.Env = append(cmd.Env, roleVariable+"="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP}
	p := &process{t: t, cmd: cmd, said: make(chan string, 1024)}
	if p.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, into, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout = into
	if name == "usher" {
		cmd.Stderr = into // its log
	}
	err = cmd.Start()
	_ = into.Close()
	if err != nil {
		_ = out.Close()
		return nil, err
	}
	go p.listen(out)
	p.wait = sync.OnceValue(cmd.Wait)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = p.wait()
		if t.Failed() {
			p.mu.Lock()
			defer p.mu.Unlock()
			t.Logf("%s (%d) said:\n%s", name, cmd.Process.Pid, strings.Join(p.all, "\n"))
		}
	})
	return p, nil
}

// listen keeps what the process says.
func (p *process) listen(out *os.File) {
	defer close(p.said)
	defer func() { _ = out.Close() }()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		p.mu.Lock()
		p.all = append(p.all, lines.Text())
		p.mu.Unlock()
		p.said <- lines.Text()
	}
}

// until waits for a line with text in it.
func (p *process) until(text string) string {
	p.t.Helper()
	for by := time.After(patience); ; {
		select {
		case line, ok := <-p.said:
			if !ok {
				p.t.Fatalf("it ended without %q", text)
			}
			if strings.Contains(line, text) {
				return line
			}
		case <-by:
			p.t.Fatalf("it has not said %q", text)
		}
	}
}

// ran is how often a request was run, when all has been said.
func (p *process) ran(request string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.all {
		if line == "ran "+request {
			n++
		}
	}
	return n
}

// ends waits for the end of the process and returns its exit code.
func (p *process) ends() int {
	p.t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- p.wait() }()
	select {
	case <-ended:
	case <-time.After(patience):
		p.t.Fatal("it has not ended")
	}
	for range p.said {
	}
	return p.cmd.ProcessState.ExitCode()
}

// broker serves. No backend is late for it, and a client waits for one that is expected, unless
// args say otherwise.
func broker(t *testing.T, args ...string) *process {
	t.Helper()
	p := start(t, "usher", role{Arguments: append([]string{"serve", "--events", "off",
		"--ack-deadline", patience.String(), "--backend-wait", patience.String()}, args...)})
	p.until(`"broker.serving"`)
	return p
}

func registered(t *testing.T, r role) *process {
	t.Helper()
	p := start(t, "backend", r)
	p.until("registered")
	return p
}

// answerOf is the answer of a process to a request.
func answerOf(p *process, request string, handedOver bool) string {
	return fmt.Sprintf("%s %d %v", request, p.cmd.Process.Pid, handedOver)
}

func (p *process) handles() int { return testutil.Handles(p.t, p.cmd.Process.Pid) }

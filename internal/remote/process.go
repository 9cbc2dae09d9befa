package remote

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/sock"
)

const (
	// settle bounds the wait for ssh's end once its end of the stream is closed.
	settle = time.Second
	// grace is what ssh may take to end after SIGTERM.
	grace = 2 * time.Second
)

// Process is the ssh of one connection. Its methods are safe for concurrent use.
//
//	running ──by itself, or End──▶ ended, reaped by a goroutine of its own
type Process struct {
	host  string
	cmd   *exec.Cmd
	said  tail
	ended chan struct{} // closed once it is reaped
	err   error         // why it failed; read after ended
}

// Dial starts ssh to pipe on the host, or to its broker where pipe is empty. Nothing is
// known then: what fails shows as the end of the stream, and Process.Err says why. The
// caller owns both.
func (h *Host) Dial(pipe string) (*sock.Conn, *Process, error) {
	near, far, err := sock.StreamPair()
	if errors.Is(err, errors.ErrUnsupported) {
		return nil, nil, fmt.Errorf("no broker on another host can be reached from this system (%w): run usher there, as in ssh %s usher status", err, h.name)
	}
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = far.Close() }()
	p := &Process{host: h.name, cmd: exec.Command("ssh", h.command(pipe)...), ended: make(chan struct{})}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = far, far, &p.said
	p.cmd.WaitDelay = settle // a master of shared connections, which ssh may leave behind, keeps standard error
	if err := p.cmd.Start(); err != nil {
		_ = near.Close()
		return nil, nil, fmt.Errorf("ssh, which leads to %s, can't be started: %w", h.name, err)
	}
	go func() { // until ssh ends, which End sees to
		err := p.cmd.Wait()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			p.err = p.failure(exit)
		}
		close(p.ended)
	}()
	return near, p, nil
}

// End has ssh end within patience, or be ended. It does not wait.
func (p *Process) End(patience time.Duration) {
	stop := func(s os.Signal) func() {
		return func() { _ = p.cmd.Process.Signal(s) } // fails on one that has ended
	}
	if patience > 0 {
		time.AfterFunc(patience, stop(syscall.SIGTERM))
	} else {
		stop(syscall.SIGTERM)()
	}
	time.AfterFunc(patience+grace, stop(syscall.SIGKILL))
}

// Err is for who has seen the stream end: it waits until ssh has ended too, for at most a
// second, and returns why it failed, an *Error; nil when it did not.
func (p *Process) Err() error {
	t := time.NewTimer(settle)
	defer t.Stop()
	select {
	case <-p.ended:
		return p.err
	case <-t.C:
		return nil
	}
}

// Error says which side of a connection to another host failed.
type Error struct {
	Host string
	// SSH: ssh itself failed, or was ended. Else it ran usher on the host, and that failed.
	SSH bool
	// ExitCode is ssh's, which passes on that of usher; -1 after a signal.
	ExitCode int
	// Said is what came on standard error, the last lines of it.
	Said string
}

// Exit codes of ssh, and of the shell that it starts on the host.
const (
	exitSSH        = 255
	exitNotAllowed = 126
	exitNotFound   = 127
)

func (p *Process) failure(exit *exec.ExitError) error {
	code := exit.ExitCode()
	return &Error{Host: p.host, SSH: code == exitSSH || code < 0, ExitCode: code, Said: p.said.text()}
}

func (e *Error) Error() string {
	said := e.Said
	if said == "" {
		said = "it said nothing"
	}
	switch {
	case e.ExitCode < 0:
		return fmt.Sprintf("ssh to %s was ended by a signal: %s", e.Host, said)
	case e.SSH:
		return fmt.Sprintf("ssh to %s failed: %s", e.Host, said)
	case e.ExitCode == exitNotFound, e.ExitCode == exitNotAllowed:
		return fmt.Sprintf("no usher can be run on %s (exit code %d): %s; install it there, or say where it is: ssh://…?%s=PROGRAM",
			e.Host, e.ExitCode, said, usherParameter)
	}
	return fmt.Sprintf("usher on %s failed (exit code %d): %s", e.Host, e.ExitCode, said)
}

// maxSaid is how much of standard error is kept.
const maxSaid = 2 << 10

// tail keeps the last of what is written to it.
type tail struct {
	mu   sync.Mutex
	kept []byte // guarded by mu
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p[max(len(p)-maxSaid, 0):]...)
	t.kept = append(t.kept[:0], t.kept[max(len(t.kept)-maxSaid, 0):]...)
	return len(p), nil
}

// text is what was written, as one line.
func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for line := range strings.Lines(string(t.kept)) {
		if line = strings.TrimPrefix(strings.TrimSpace(line), "usher: "); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

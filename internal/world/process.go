package world

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Command says what to start.
type Command struct {
	Name string   // in errors, and of the log: NAME.log in the World's directory
	Args []string // the program and its arguments
	Env  []string // beside the World's
	// Files become the descriptors 3 and up.
	Files []*os.File
	// Stderr is where standard error goes instead of the log.
	Stderr *os.File
	// Foreign says that the program is not in a role of ours: it has no standard
	// input, what it says goes to the log, and it may start processes of its own,
	// which are its group and end with it. Linux alone.
	Foreign bool
}

// Process is a process that a World started. One goroutine waits for its end.
//
// One goroutine at a time may converse with it; the rest is safe for concurrent use.
type Process struct {
	Name string

	cmd     *exec.Cmd
	foreign bool
	stdin   io.WriteCloser // nil when foreign
	said    *lines
	log     string        // the log's path, or empty
	ended   chan struct{} // closed when it has been reaped and all it said is known
	err     error         // how it ended; read after ended

	// reaping is locked for good before a foreign process is reaped: its number, and
	// that of its group, may be somebody else's from then on.
	reaping sync.RWMutex
}

// outputDelay is how long a process that has ended may leave its output open in a
// child of its own.
const outputDelay = 5 * time.Second

// Start starts a process.
func (w *World) Start(c Command) (*Process, error) {
	cmd := exec.CommandContext(w.ctx, c.Args[0], c.Args[1:]...)
	cmd.Env, cmd.Dir, cmd.ExtraFiles, cmd.WaitDelay = append(w.Env[:len(w.Env):len(w.Env)], c.Env...), w.Dir, c.Files, outputDelay
	p := &Process{Name: c.Name, cmd: cmd, foreign: c.Foreign, said: newLines(), ended: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := p.start(w, c.Stderr); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	w.all = append(w.all, p)
	return p, nil
}

func (p *Process) start(w *World, stderr *os.File) (err error) {
	if err := prepare(p.cmd, p.foreign); err != nil {
		return err
	}
	if stderr == nil {
		p.log = w.Path(p.Name + ".log")
		log, err := os.Create(p.log)
		if err != nil {
			return err
		}
		defer func() { _ = log.Close() }() // the process has its own descriptor
		stderr = log
	}
	p.cmd.Stderr = stderr
	if p.foreign {
		p.cmd.Stdout = stderr
		p.cmd.Cancel = func() error { return p.Signal(syscall.SIGKILL) }
	} else {
		p.cmd.Stdout = p.said
		if p.stdin, err = p.cmd.StdinPipe(); err != nil {
			return err
		}
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	if err := w.group.add(p.PID()); err != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		return err
	}
	go func() {
		defer close(p.ended)
		if p.foreign {
			awaitLeader(p.PID())
			_ = p.Signal(syscall.SIGKILL) // what it leaves behind
			p.reaping.Lock()
		}
		p.err = p.cmd.Wait()
	}()
	return nil
}

// PID is the process' number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Wait waits for the process' end and returns how it ended, as exec.Cmd.Wait does.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.ended:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("%s has not ended: %w", p.Name, ctx.Err())
	}
}

// Signal sends a signal to the process, a foreign one's group included.
func (p *Process) Signal(sig os.Signal) error {
	if !p.foreign {
		return p.cmd.Process.Signal(sig)
	}
	if !p.reaping.TryRLock() {
		return os.ErrProcessDone
	}
	defer p.reaping.RUnlock()
	return signalGroup(p.PID(), sig)
}

// Kill ends the process at once, frozen or not, and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // a foreign one's group ends with it
	<-p.ended
}

// EndInput ends the standard input of a process in a role, which ends by that as soon as it
// has answered.
func (p *Process) EndInput() error { return p.stdin.Close() }

// Quit is EndInput, and waits. The error says that the process did not end, or not well.
func (p *Process) Quit() error {
	_ = p.EndInput()
	return p.quit()
}

// Terminate is Quit by SIGTERM.
func (p *Process) Terminate() error {
	if err := p.Signal(syscall.SIGTERM); errors.Is(err, errors.ErrUnsupported) { // any other has ended, as is found below
		p.Kill()
		return fmt.Errorf("end %s by a signal: %w on this system", p.Name, errors.ErrUnsupported)
	}
	return p.quit()
}

// stopTimeout is how long a process may take to end by itself.
const stopTimeout = stepTimeout

func (p *Process) quit() error {
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		p.Kill()
		return fmt.Errorf("%s did not end within %s", p.Name, stopTimeout)
	}
	if p.err != nil {
		return fmt.Errorf("%s ended badly: %w%s", p.Name, p.err, p.LastWords())
	}
	return nil
}

// Freeze stops the process from outside and waits until it has stopped.
func (p *Process) Freeze(ctx context.Context) error {
	if err := p.freeze(); err != nil {
		return fmt.Errorf("freeze %s: %w", p.Name, err)
	}
	return p.AwaitFrozen(ctx)
}

// stillRuns returns an error when the process has ended.
func (p *Process) stillRuns() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s has ended (%v)%s", p.Name, p.err, p.LastWords())
	default:
		return nil
	}
}

// LastWords is the end of the log, for errors.
func (p *Process) LastWords() string {
	const most = 300
	log, err := os.ReadFile(p.log)
	words := strings.TrimSpace(string(log[max(0, len(log)-most):]))
	if p.log == "" || err != nil || words == "" {
		return ""
	}
	return "; the last it said: " + words
}

// Package launch starts processes that outlive the one that starts them: a broker, or an
// instance of a service. They get a session of their own, no terminal, no descriptor but
// those that are meant for them, an environment that is written out, and a log in place
// of standard output and error.
//
// The file that runs is the one that was opened, whatever has become of its path since.
package launch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/sock"
)

// RoleVariable tells a process of a tool which of its roles it was started in, and
// ToolVariable the name of the tool: an executable may have several.
const (
	RoleVariable = "USHER_ROLE"
	ToolVariable = "USHER_TOOL"
)

// StarterVariable tells a process of a tool what the pipe to its starter is called.
const StarterVariable = "USHER_STARTER"

// The values of RoleVariable.
const (
	RoleBroker = "broker"
	RoleDaemon = "daemon"
)

// Spec says what to start.
type Spec struct {
	// Program is the opened executable; Start borrows it. Where it is nil, Path is run.
	Program *os.File
	// Path is what the process is told to be called.
	Path string
	Args []string
	// Env is the whole environment.
	Env []string
	// Dir is the working directory; "/" when empty.
	Dir string
	// Output takes standard output and error, /dev/null when nil. Start borrows it.
	Output *os.File
	// Stdin and Stdout, where they are not nil, are standard input and output, and Output
	// takes standard error alone. Start borrows them; they are given in blocking mode.
	Stdin, Stdout *os.File
	// Run, where it is not nil, is called once it is known that the program runs, and before
	// it does anything: what Run has written the program can't get ahead of. After an error
	// of Run the process is ended, and the error is Start's. Where the system does not let a
	// program be held (see mayHold), Run is called before the start, whose error then
	// may come behind it.
	Run func() error
	// OwnPID, where it is not empty, names a variable in which the program finds its own
	// process id. It is run by Path then, and has no Run.
	OwnPID string
	// Inherit are the child's descriptors 3, 4, … . Start borrows them.
	Inherit []*os.File
	// Given follow those of Inherit. Start closes them here, whatever comes of it.
	Given []*sock.FD
	// Numbers, where it is not empty, names a variable in which the program finds what
	// Inherit and Given are called there, with commas between: "3,4". Windows gives them
	// numbers of its own.
	Numbers string
}

// Process is a process that was started here, or by another that has passed it on. Its methods
// are safe for concurrent use.
//
//	running ──ends by itself, or End──▶ ended ──Wait──▶ reaped
type Process struct {
	cmd    *exec.Cmd // nil for one that was started by another
	pid    int       // os.Process forgets it when it is released
	group  group     // of a child of this process
	handle *peer.Process

	mu     sync.Mutex // held while a signal is sent: until the leader is reaped, its group's id is its own
	ending bool       // nothing of its group may be left behind
	reaped bool
	exit   Exit // once reaped
	gone   bool // released: nobody here sees its end
}

// Exit is how a process ended.
type Exit struct {
	Code   int    // of exit; −1 after a signal, or where nobody knows
	Signal string // that ended it; "" otherwise
}

// String says it in words: "exited with code 3", "was ended by signal: killed".
func (e Exit) String() string {
	if e.Signal != "" {
		return "was ended by signal: " + e.Signal
	}
	if e.Code < 0 {
		return "ended, and another was told how"
	}
	return fmt.Sprintf("exited with code %d", e.Code)
}

// Failed reports whether it is known that the process did not end as it should.
func (e Exit) Failed() bool { return e.Signal != "" || e.Code > 0 }

// Known is String, or "" where nobody here knows.
func (e Exit) Known() string {
	if e.Signal == "" && e.Code < 0 {
		return ""
	}
	return e.String()
}

// Resume returns the process that another one has started with Start, and whose handle that one
// has passed to this. It owns the handle. Wait returns when it has ended, and not how: that is
// told to its parent.
func Resume(handle *peer.Process) *Process { return &Process{pid: handle.PID(), handle: handle} }

// Start starts what s says. The caller calls Wait until it has returned an Exit: until
// then the process, once ended, stays a zombie, and its id can't be used again.
func Start(s Spec) (*Process, error) {
	p, err := start(s)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Path, err)
	}
	return p, nil
}

func start(s Spec) (*Process, error) {
	if s.OwnPID != "" && !mayHold(s.Program) {
		s = s.throughShell()
	}
	path := s.Path
	b, err := s.bequeath()
	defer b.close()
	if err != nil {
		return nil, err
	}
	files, err := s.files()
	if err != nil {
		return nil, err
	}
	if files[0] != nil {
		defer files[0].Close() // the null device
	}
	if s.Program != nil && s.OwnPID == "" {
		opened, err := reopen(s.Program, s.Path, append(files[1:], b.files...))
		if err != nil {
			return nil, err
		}
		defer opened.close()
		path = opened.path(path)
	}
	cmd, err := s.command(path, files)
	if err != nil {
		return nil, err
	}
	b.leaveTo(cmd)
	if s.Numbers != "" {
		cmd.Env = append(cmd.Env, s.Numbers+"="+strings.Join(b.numbers, ","))
	}
	first := s.Run
	if s.OwnPID != "" {
		first = s.withPID(cmd)
	}
	if err := run(cmd, first, s.Program); err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, pid: cmd.Process.Pid}
	if p.group, err = lead(p.pid); err == nil {
		if p.handle, err = peer.OpenChild(p.pid); err == nil { // the pid is its own: nobody has reaped it
			return p, nil
		}
		_ = p.group.end(true)
		p.group.close()
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return nil, err
}

// command is what runs path with the null device and the standard streams in files.
func (s Spec) command(path string, files []*os.File) (*exec.Cmd, error) {
	cmd := &exec.Cmd{
		Stdin: files[1], Stdout: files[2], Stderr: files[3],
		Path: path, Args: append([]string{s.Path}, s.Args...), Dir: s.Dir,
		Env:         append([]string{}, s.Env...), // never nil, which would be this process' own
		SysProcAttr: detached(),
	}
	if cmd.Dir == "" {
		cmd.Dir = root
	} else if _, err := os.Stat(cmd.Dir + "/."); err != nil { // that can be gone to; else the error would name the program
		return nil, err
	}
	return cmd, nil
}

// files are the null device, which the caller closes and which is nil where nothing is it,
// and the child's standard streams.
func (s Spec) files() ([]*os.File, error) {
	stdin, stdout, stderr := s.Stdin, s.Stdout, s.Output
	var null *os.File
	if stdin == nil || stderr == nil {
		var err error
		if null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
			return nil, err
		}
	}
	if stderr == nil {
		stderr = null
	}
	if stdout == nil {
		stdout = stderr
	}
	if stdin == nil {
		stdin = null
	}
	return []*os.File{null, stdin, stdout, stderr}, nil
}

// run starts cmd, and calls first when the program can't fail to begin any more.
func run(cmd *exec.Cmd, first func() error, program *os.File) error {
	if first == nil {
		return cmd.Start()
	}
	if mayHold(program) {
		return startHeld(cmd, first)
	}
	if err := first(); err != nil {
		return err
	}
	return cmd.Start()
}

// ErrPrivileged says that an executable runs with other rights than its user's.
var ErrPrivileged = errors.New("it has set-uid, set-gid or capabilities, and is not started for others")

// CheckRights returns ErrPrivileged where f, whose status is fi, gives who runs it rights
// that he has not, or may do so for all that can be told.
func CheckRights(f *os.File, fi fs.FileInfo) error {
	if fi.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 || hasCapabilities(f) {
		return ErrPrivileged
	}
	return nil
}

// PID returns the process' id, which is that of its group and session too.
func (p *Process) PID() int { return p.pid }

// Handle lends the handle on the process. It is good until Wait has returned an Exit.
func (p *Process) Handle() *peer.Process { return p.handle }

// Wait returns how the process ended, as soon as it has, and frees what the kernel keeps
// of it. It returns ctx's error when ctx ends first, and os.ErrClosed after Release.
func (p *Process) Wait(ctx context.Context) (Exit, error) {
	if err := p.handle.Wait(ctx); err != nil && !errors.Is(err, os.ErrClosed) {
		return Exit{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return Exit{}, os.ErrClosed
	}
	if !p.reaped {
		if p.ending {
			_ = p.endGroup(true)
		}
		p.exit, p.reaped = Exit{Code: -1}, true
		if p.cmd != nil {
			_ = p.cmd.Wait() // at once; what it says is in ProcessState
			p.exit = exitOf(p.cmd.ProcessState)
		}
		p.group.close()
		p.handle.Close()
	}
	return p.exit, nil
}

// Release gives the process up: it lives on, and its end is somebody else's to see. An End
// that is under way still ends it.
func (p *Process) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	if !p.ending {
		p.group.close()
	}
	p.handle.Close()
	if p.cmd != nil {
		_ = p.cmd.Process.Release()
	}
}

// End has the process and its group end: they are asked, and ended after grace, or when
// ctx ends, or at once where the system has no way to ask them (Windows). What is left of the
// group goes with its leader, even where that went by itself. End returns how the process
// ended, which may take a moment longer than grace.
func (p *Process) End(ctx context.Context, grace time.Duration) Exit {
	patience, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if p.signal(false) == nil {
		_ = p.handle.Wait(patience)
	}
	_ = p.signal(true)
	exit, err := p.Wait(context.WithoutCancel(ctx))
	if errors.Is(err, os.ErrClosed) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.group.close()
	}
	return exit
}

// signal asks the group to end, or ends it.
func (p *Process) signal(now bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ending = true
	if p.reaped {
		return os.ErrProcessDone
	}
	return p.endGroup(now)
}

// endGroup asks the group to end, or ends it. The number of another's child may be a stranger's
// as soon as that has reaped it.
func (p *Process) endGroup(now bool) error {
	if p.cmd == nil {
		return p.handle.EndGroup(now)
	}
	return p.group.end(now)
}

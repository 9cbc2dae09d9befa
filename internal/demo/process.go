package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/seed-7265657e/usher/examples/notes/notes"
)

const (
	// stepTimeout bounds every wait for a process to say something.
	stepTimeout = 30 * time.Second
	// stopTimeout is how long a process may take to end by itself.
	stopTimeout = 10 * time.Second
)

// Messages of the log lines by which the demo's own processes tell what they do.
const (
	msgExecuted = "executed" // id
	msgFreezing = "freezing" // its own process, next
	msgReport   = "report"   // report
	msgHandoffs = "handoffs" // handoffs
	msgResult   = "result"   // result
)

// Messages of usher's own log lines that the demo waits for.
const (
	msgServing        = "serving"                    // broker
	msgBackend        = "backend registered"         // broker: backend_pid
	msgFellBack       = "handoff fell back"          // broker: backend_pid, outcome
	msgConnectionDone = "connection done"            // broker: steps
	msgRegistered     = "registered with the broker" // backend
	msgNotAdopted     = "handoff not adopted"        // backend: reason
	msgLost           = "NACK_REASON_CLAIM_LOST"     // reason
)

// line is one line of a process' JSON log, with the fields that matter here.
type line struct {
	Msg        string `json:"msg"`
	BackendPID int    `json:"backend_pid"`
	ID         string `json:"id"`
	Reason     string `json:"reason"`
	Outcome    struct {
		Verdict string `json:"verdict"`
		Reached bool   `json:"fd_reached_backend"`
	} `json:"outcome"`
	Steps    map[string]int64 `json:"steps"`
	Report   *notes.Report    `json:"report"`
	Handoffs []adoption       `json:"handoffs"`
	Result   *tally           `json:"result"`

	raw []byte
}

// process is one child process. One goroutine reads its log, reaps it, and ends
// with it.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	ended chan struct{} // closed when it has been reaped and its log is complete
	err   error         // how it ended; read after ended

	mu      sync.Mutex
	lines   []line
	changed chan struct{} // closed and renewed at every line
}

// stream is (*exec.Cmd).StdoutPipe or (*exec.Cmd).StderrPipe.
type stream func(*exec.Cmd) (io.ReadCloser, error)

// start runs cmd and reads its JSON log from source. The
// log is copied to logFile, which start owns. The process is killed when cmd's
// context ends; the caller waits for ended.
func start(name string, cmd *exec.Cmd, source stream, logFile *os.File) (*process, error) {
	p := &process{name: name, cmd: cmd, ended: make(chan struct{}), changed: make(chan struct{})}
	dieWithParent(cmd)
	out, err := source(cmd)
	if cmd.Stderr == nil {
		cmd.Stderr = cmd.Stdout // why a role ended is a line of its log too
	}
	if err == nil {
		p.stdin, err = cmd.StdinPipe()
	}
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, errors.Join(err, logFile.Close()))
	}
	go p.follow(out, logFile)
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) follow(out io.Reader, logFile *os.File) {
	defer close(p.ended)
	r := bufio.NewReader(out)
	for {
		raw, err := r.ReadBytes('\n')
		if len(raw) > 0 {
			_, _ = logFile.Write(raw) // for --keep; the demo reads the pipe
			p.add(raw)
		}
		if err != nil {
			break
		}
	}
	_ = logFile.Close()
	p.err = p.cmd.Wait()
}

func (p *process) add(raw []byte) {
	l := line{raw: raw}
	if json.Unmarshal(raw, &l) != nil {
		l = line{raw: raw} // a panic's text, say
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, l)
	close(p.changed)
	p.changed = make(chan struct{})
}

// logged returns what the process has logged so far, from the line numbered from.
func (p *process) logged(from int) ([]line, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lines[from:len(p.lines):len(p.lines)], p.changed
}

// mark is the number of the next line.
func (p *process) mark() int {
	lines, _ := p.logged(0)
	return len(lines)
}

// await waits for the first line at or behind mark that fits. It fails when the
// process ends without one, at stepTimeout, and with ctx.
func (p *process) await(ctx context.Context, mark int, what string, fits func(*line) bool) (*line, error) {
	timer := time.NewTimer(stepTimeout)
	defer timer.Stop()
	for over := false; ; {
		lines, changed := p.logged(mark)
		for i := range lines {
			if fits(&lines[i]) {
				return &lines[i], nil
			}
		}
		if over {
			return nil, fmt.Errorf("%s ended before it said %q (%v)%s", p.name, what, p.err, p.lastWords())
		}
		mark += len(lines)
		select {
		case <-changed:
		case <-p.ended:
			over = true // one more look: the log is complete now
		case <-timer.C:
			return nil, fmt.Errorf("%s did not say %q within %s%s", p.name, what, stepTimeout, p.lastWords())
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (p *process) lastWords() string {
	lines, _ := p.logged(0)
	if len(lines) == 0 {
		return ""
	}
	return fmt.Sprintf("; the last it said: %s", lines[len(lines)-1].raw)
}

// says fits lines with this message.
func says(msg string) func(*line) bool {
	return func(l *line) bool { return l.Msg == msg }
}

// ask writes one line to the process and waits for its answer.
func (p *process) ask(ctx context.Context, question, answer string) (*line, error) {
	mark := p.mark()
	if _, err := io.WriteString(p.stdin, question+"\n"); err != nil {
		return nil, fmt.Errorf("ask %s for its %s: %w%s", p.name, answer, err, p.lastWords())
	}
	return p.await(ctx, mark, answer, says(answer))
}

// stop ends a process of a demo role by closing its standard input, kills it
// when it takes too long, and waits for its end. The error says that it did not
// end well.
func (p *process) stop() error {
	_ = p.stdin.Close()
	return p.join()
}

func (p *process) join() error {
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.ended:
		if p.err != nil {
			return fmt.Errorf("%s ended badly: %w%s", p.name, p.err, p.lastWords())
		}
		return nil
	case <-timer.C:
		p.kill()
		return fmt.Errorf("%s did not end within %s", p.name, stopTimeout)
	}
}

// kill ends the process at once, frozen or not, and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// executions counts by request id what the process has run, from its log.
func (p *process) executions(into map[string]int) {
	lines, _ := p.logged(0)
	for l := range slices.Values(lines) {
		if l.Msg == msgExecuted {
			into[l.ID]++
		}
	}
}

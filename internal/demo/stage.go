package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-7265657e/usher/examples/notes/notes"
	"github.com/seed-7265657e/usher/internal/brokerpb"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/service"
)

// ackDeadline is how long the demo's broker waits for a backend: long enough for
// a busy machine, short enough to watch a frozen backend lose its claim.
const ackDeadline = time.Second

// stage is the private world the demo plays in. It is used by one goroutine.
type stage struct {
	ctx    context.Context // kills every process when it ends
	cancel context.CancelFunc
	opts   Options
	dir    string
	env    []string

	broker   *process
	standing []*process // the two backends that live to the end
	all      []*process // every process ever started
	backends []*process // of them

	tallies   []*tally // of every errand but the warm-up
	drawn     []Step   // the timeline
	baselines []baseline
	fdsLeaked int
}

// maxDir is the longest directory that leaves room for socket names in it, in
// bytes.
const maxDir = 60

func newStage(ctx context.Context, opts Options) (*stage, error) {
	dir, err := os.MkdirTemp("", "usher-demo")
	if err == nil && len(dir) > maxDir {
		_ = os.Remove(dir)
		dir, err = os.MkdirTemp("/tmp", "usher-demo")
	}
	if err != nil {
		return nil, fmt.Errorf("private directory: %w", err)
	}
	s := &stage{opts: opts, dir: dir}
	s.ctx, s.cancel = context.WithCancel(ctx)
	// The user's own settings must reach none of the processes.
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "RUNNING_PROCESS_") && !strings.HasPrefix(v, "XDG_") {
			s.env = append(s.env, v)
		}
	}
	s.env = append(s.env,
		"XDG_RUNTIME_DIR="+dir,
		"XDG_CONFIG_HOME="+dir,
		"XDG_STATE_HOME="+dir,
		endpoint.ServiceDefVariable+"="+s.definitions(),
		endpoint.SocketVariable+"="+s.socket(),
	)
	return s, nil
}

func (s *stage) definitions() string { return filepath.Join(s.dir, "services") }
func (s *stage) socket() string      { return filepath.Join(s.dir, "broker.sock") }

// set defines the service, starts broker and standing backends, uses every route
// once, and takes the baselines.
func (s *stage) set() error {
	_, err := service.Save(s.definitions(), &brokerpb.ServiceDefinition{
		ServiceName: notes.Service,
		BinaryPath:  s.opts.Program,
		Isolation:   brokerpb.BrokerIsolation_SHARED_BROKER,
	}, service.TOML)
	if err != nil {
		return err
	}
	if err := s.startBroker(s.ctx, "broker"); err != nil {
		return err
	}
	for _, name := range []string{"backend-a", "backend-b"} {
		p, err := s.startBackend(s.ctx, name, "")
		if err != nil {
			return err
		}
		s.standing = append(s.standing, p)
	}
	if err := s.warm(s.ctx); err != nil {
		return err
	}
	return s.takeBaselines(s.ctx)
}

// warm uses every route once: what a process opens at first use and keeps is no
// leak.
func (s *stage) warm(ctx context.Context) error {
	for _, noHandoff := range []bool{false, true} {
		e := errands{Requests: 1, Prefix: fmt.Sprintf("warm-%d", len(s.all)), NoHandoff: noHandoff}
		t, err := s.send(ctx, e)
		if err != nil {
			return err
		}
		s.tallies = s.tallies[:len(s.tallies)-1] // not a part of any scenario
		if t.answered() != e.Requests {
			return fmt.Errorf("warm-up: %s", strings.Join(t.Faults, "; "))
		}
	}
	return nil
}

// startBroker runs `usher serve` and waits until it serves.
func (s *stage) startBroker(ctx context.Context, name string) error {
	p, err := s.start(name, (*exec.Cmd).StderrPipe, "serve", "--socket", s.socket(), "--service-def-dir", s.definitions(),
		"--ack-deadline", ackDeadline.String(), "--log-level", "debug", "--log-format", "json")
	if err != nil {
		return err
	}
	s.broker = p
	_, err = p.await(ctx, 0, msgServing, says(msgServing))
	return err
}

// startBackend runs a backend and waits until the broker knows it. It is the
// newest then, so the next connection goes to it.
func (s *stage) startBackend(ctx context.Context, name string, fault Fault) (*process, error) {
	args := []string{"demo-role", "backend", "--pipe", filepath.Join(s.dir, name+".sock")}
	if fault != "" {
		args = append(args, "--fault", string(fault))
	}
	p, err := s.start(name, (*exec.Cmd).StdoutPipe, args...)
	if err != nil {
		return nil, err
	}
	s.backends = append(s.backends, p)
	if _, err = p.await(ctx, 0, msgRegistered, says(msgRegistered)); err != nil {
		return nil, err
	}
	_, err = s.broker.await(ctx, 0, msgBackend, func(l *line) bool { return l.Msg == msgBackend && l.BackendPID == p.pid() })
	return p, err
}

func (s *stage) startClient() (*process, error) {
	return s.start(fmt.Sprintf("client-%d", len(s.all)), (*exec.Cmd).StdoutPipe, "demo-role", "client")
}

func (s *stage) start(name string, source stream, args ...string) (*process, error) {
	logFile, err := os.Create(filepath.Join(s.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(s.ctx, s.opts.Program, args...)
	cmd.Env = s.env
	cmd.Dir = s.dir
	p, err := start(name, cmd, source, logFile)
	if err != nil {
		return nil, err
	}
	s.all = append(s.all, p)
	return p, nil
}

// send lets a client process of its own run an errand, and end.
func (s *stage) send(ctx context.Context, e errands) (*tally, error) {
	c, err := s.startClient()
	if err != nil {
		return nil, err
	}
	t, err := s.run(ctx, c, e)
	return t, errors.Join(err, c.stop())
}

// run lets a client process run an errand, and enters the result.
func (s *stage) run(ctx context.Context, c *process, e errands) (*tally, error) {
	question, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	l, err := c.ask(ctx, string(question), msgResult)
	if err != nil {
		// What the client can't tell any more has no verdict.
		s.tallies = append(s.tallies, &tally{Requests: e.Requests, Lost: e.Requests})
		return nil, err
	}
	s.tallies = append(s.tallies, l.Result)
	return l.Result, nil
}

// report asks a backend for its counters.
func (s *stage) report(ctx context.Context, p *process) (*notes.Report, error) {
	l, err := p.ask(ctx, askReport, msgReport)
	if err != nil {
		return nil, err
	}
	return l.Report, nil
}

// executed counts by request id what all backends together have run.
func (s *stage) executed() map[string]int {
	times := make(map[string]int)
	for _, p := range s.backends {
		p.executions(times)
	}
	return times
}

// strike ends the processes that still live, politely.
func (s *stage) strike() error {
	var errs []error
	for _, p := range s.standing {
		errs = append(errs, p.stop())
	}
	s.standing = nil
	if s.broker != nil {
		_ = terminate(s.broker.cmd.Process) // one that is gone is found by join
		errs = append(errs, s.broker.join())
	}
	return errors.Join(errs...)
}

// close kills what is left, waits for every process, and removes the directory.
func (s *stage) close() error {
	s.cancel()
	for _, p := range s.all {
		_ = p.stdin.Close()
		<-p.ended
	}
	if s.opts.Keep {
		return nil
	}
	return os.RemoveAll(s.dir)
}

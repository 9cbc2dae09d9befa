package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"time"

	"github.com/seed-7265657e/usher"
	"github.com/seed-7265657e/usher/internal/launch"
	"github.com/seed-7265657e/usher/internal/world"
)

// ColdFigures say what first calls of a one-binary tool cost that find nothing running.
// Times are medians over the rounds, in ms.
type ColdFigures struct {
	Clients          int     `json:"clients"` // that call at once
	Rounds           int     `json:"rounds"`
	BrokersStarted   int     `json:"brokers_started"` // for them, in all rounds
	DaemonsStarted   int     `json:"daemons_started"`
	Failures         int     `json:"failures"` // calls without a right answer, those of one client included
	SharedRatio      float64 `json:"shared_ratio"`
	FirstAnswerRatio float64 `json:"first_answer_ratio"`

	// StartupMS is how long the daemon works, asleep, before it listens.
	StartupMS   float64 `json:"startup_ms"`
	SlowestMS   float64 `json:"slowest_ms"`      // of the clients that share a start, from the moment that all were let go
	WarmMS      float64 `json:"warm_slowest_ms"` // the same with broker and daemon running
	AloneMS     float64 `json:"alone_ms"`        // one client's, from the moment that it was let go
	FirstMS     float64 `json:"first_answer_ms"` // one client's, from before it was started
	DaemonMS    float64 `json:"daemon_ms"`       // from before a daemon was started until it listens
	FirstReason string  `json:"first_failure,omitempty"`
}

// Goals of ColdFigures.
const (
	mostShared = 1.3
	mostFirst  = 2.0
)

// ColdOptions say what to measure.
type ColdOptions struct {
	Clients int
	Rounds  int
	Startup time.Duration // of the daemon
}

// Defaults of ColdOptions, and bounds.
const (
	DefaultColdClients = 64
	DefaultColdRounds  = 50
	coldRoundsQuick    = 3
	MaxRounds          = 1000
)

// coldTool is what is measured: a tool whose daemon echoes. It is this very executable.
var coldTool = usher.Tool{
	Name: "usher-bench", Version: version, Serve: serveCold,
	EnvKey: []string{startupVariable},
}

// startupVariable is ColdOptions.Startup.
const startupVariable = "USHER_BENCH_STARTUP"

// ToolMain is Main of coldTool: it serves, and ends the process, in one that was started
// as its broker or daemon.
func ToolMain() {
	role := os.Getenv(launch.RoleVariable)
	if role == "" {
		return
	}
	world.NoteStart(coldTool.Name, role)
	coldTool.Main()
}

// moment is the line that a process says when it has come so far.
type moment struct {
	Ready bool   `json:"ready"`
	AtNS  int64  `json:"at_ns"` // Unix time
	Error string `json:"error,omitempty"`
}

func sayMoment(out io.Writer, err error) error {
	m := moment{Ready: err == nil, AtNS: time.Now().UnixNano()}
	if err != nil {
		m.Error = err.Error()
	}
	return json.NewEncoder(out).Encode(m)
}

// serveCold is the daemon. It says on its standard output, which is its log where a broker
// has started it, that it listens.
func serveCold(_ context.Context, ln net.Listener) error {
	if d, err := time.ParseDuration(os.Getenv(startupVariable)); err == nil {
		time.Sleep(d)
	}
	_ = sayMoment(os.Stdout, nil)
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go echo(c)
	}
}

const (
	coldTimeout = 30 * time.Second
	// beginDescriptor is what a call reads to its end before it begins, where it waits.
	beginDescriptor = 3
)

// RunCall is one call of coldTool. It says when it has the right answer, or why it has
// not.
func RunCall(ctx context.Context, wait bool, out io.Writer) error {
	if wait {
		if err := sayMoment(out, nil); err != nil {
			return err
		}
		begin := os.NewFile(beginDescriptor, "begin")
		_, err := io.Copy(io.Discard, begin)
		if err := errors.Join(err, begin.Close()); err != nil {
			return err
		}
	}
	return sayMoment(out, call(ctx))
}

func call(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, coldTimeout)
	defer cancel()
	question := fmt.Appendf(nil, "%*d", request, os.Getpid())
	c, err := coldTool.DialWith(ctx, question)
	if err != nil {
		return err
	}
	defer c.Close()
	by, _ := ctx.Deadline()
	_ = c.SetDeadline(by)
	answer := make([]byte, request)
	if _, err := io.ReadFull(c, answer); err != nil {
		return err
	}
	if !bytes.Equal(answer, question) {
		return fmt.Errorf("the answer is %q, not %q", answer, question)
	}
	return nil
}

// cold is a measurement under way.
type cold struct {
	ColdOptions
	program string
	figures *ColdFigures
}

// Cold measures ColdFigures. In each round it does each of these from nothing, with
// directories of its own, in random order: clients that all call at once; one client that
// calls; one that is started and calls; a daemon that is started by itself.
func Cold(ctx context.Context, o Options, what ColdOptions) (*ColdFigures, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if err := world.AdoptOrphans(); err != nil {
		return nil, fmt.Errorf("processes that outlive their parents can't be ended reliably: %w", err)
	}
	if o.Quick {
		what.Rounds = min(what.Rounds, coldRoundsQuick)
	}
	c := &cold{ColdOptions: what, program: o.Program, figures: &ColdFigures{
		Clients: what.Clients, Rounds: what.Rounds, StartupMS: ms(what.Startup),
	}}
	var shared, warm, alone, first, daemon []float64
	measures := []func(context.Context, *world.World) error{
		func(ctx context.Context, w *world.World) error {
			slowest, err := c.together(ctx, w, c.Clients)
			if err != nil {
				return err
			}
			c.count(w)
			shared = append(shared, slowest)
			slowest, err = c.together(ctx, w, c.Clients)
			warm = append(warm, slowest)
			return err
		},
		func(ctx context.Context, w *world.World) error {
			took, err := c.together(ctx, w, 1)
			alone = append(alone, took)
			return err
		},
		func(ctx context.Context, w *world.World) error {
			took, err := c.first(ctx, w)
			first = append(first, took)
			return err
		},
		func(ctx context.Context, w *world.World) error {
			took, err := c.daemon(ctx, w)
			daemon = append(daemon, took)
			return err
		},
	}
	rng := rand.New(rand.NewPCG(1, 0))
	for round := range c.Rounds {
		o.Progress(fmt.Sprintf("first calls, round %d of %d", round+1, c.Rounds))
		for _, i := range rng.Perm(len(measures)) {
			if err := c.fromNothing(ctx, measures[i]); err != nil {
				return nil, err
			}
		}
	}
	f := c.figures
	f.SlowestMS, f.WarmMS, f.AloneMS, f.FirstMS, f.DaemonMS = median(shared), median(warm), median(alone), median(first), median(daemon)
	f.SharedRatio, f.FirstAnswerRatio = f.SlowestMS/f.AloneMS, f.FirstMS/f.DaemonMS
	return f, nil
}

func ms(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// fromNothing has f measure where nothing runs, and ends what it leaves.
func (c *cold) fromNothing(ctx context.Context, f func(context.Context, *world.World) error) (err error) {
	w, err := world.New(ctx, serviceName, c.program)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	w.Env = append(w.Env, "HOME="+w.Dir, startupVariable+"="+c.Startup.String())
	if err := w.CountStarts(coldTool.Name); err != nil {
		return err
	}
	err = f(ctx, w)
	return errors.Join(err, w.EndDetached(append(w.Started(coldTool.Name, launch.RoleBroker), w.Started(coldTool.Name, launch.RoleDaemon)...)...))
}

func (c *cold) count(w *world.World) {
	c.figures.BrokersStarted += len(w.Started(coldTool.Name, launch.RoleBroker))
	c.figures.DaemonsStarted += len(w.Started(coldTool.Name, launch.RoleDaemon))
}

// together has n clients call at once, which run already, and returns how long the slowest
// took.
func (c *cold) together(ctx context.Context, w *world.World, n int) (slowest float64, err error) {
	wait, begin, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer begin.Close()
	defer wait.Close()
	clients := make([]*world.Process, n)
	for i := range clients {
		if clients[i], err = w.Start(world.Command{
			Name: "client", Args: []string{c.program, "bench-role", "call", "--wait"}, Files: []*os.File{wait}, Stderr: os.Stderr,
		}); err != nil {
			return 0, err
		}
	}
	for _, p := range clients {
		if err := p.Ready(ctx); err != nil {
			return 0, err
		}
	}
	from := time.Now()
	_ = begin.Close()
	for _, p := range clients {
		took, err := c.answered(ctx, p, from)
		if err != nil {
			return 0, err
		}
		slowest = max(slowest, took)
	}
	return slowest, nil
}

// first is one client, from its start on.
func (c *cold) first(ctx context.Context, w *world.World) (float64, error) {
	from := time.Now()
	p, err := w.Start(world.Command{Name: "client", Args: []string{c.program, "bench-role", "call"}, Stderr: os.Stderr})
	if err != nil {
		return 0, err
	}
	return c.answered(ctx, p, from)
}

// daemon is a daemon that no broker has started, from its start until it listens.
func (c *cold) daemon(ctx context.Context, w *world.World) (took float64, err error) {
	from := time.Now()
	p, err := w.Start(world.Command{Name: "daemon", Args: []string{c.program}, Env: []string{launch.RoleVariable + "=" + launch.RoleDaemon}})
	if err != nil {
		return 0, err
	}
	var m moment
	if err := p.Line(ctx, &m); err != nil {
		return 0, err
	}
	return ms(time.Unix(0, m.AtNS).Sub(from)), p.Terminate()
}

// answered is how long p took to its answer, which may be a failure, and sees it end.
func (c *cold) answered(ctx context.Context, p *world.Process, from time.Time) (took float64, err error) {
	var m moment
	if err := p.Line(ctx, &m); err != nil {
		return 0, err
	}
	if !m.Ready {
		if c.figures.Failures++; c.figures.FirstReason == "" {
			c.figures.FirstReason = m.Error
		}
	}
	return ms(time.Unix(0, m.AtNS).Sub(from)), p.Quit()
}

// Write shows the figures as text.
func (f *ColdFigures) Write(w io.Writer) error {
	t := newTable(w)
	t.row("%d first calls at once, %d rounds\t\tgoal", f.Clients, f.Rounds)
	t.row("  brokers started\t%d\t%d, %s", f.BrokersStarted, f.Rounds, met(f.BrokersStarted == f.Rounds))
	t.row("  daemons started\t%d\t%d, %s", f.DaemonsStarted, f.Rounds, met(f.DaemonsStarted == f.Rounds))
	t.row("  failures\t%d\t0, %s", f.Failures, met(f.Failures == 0))
	if f.FirstReason != "" {
		t.row("    the first: %s", f.FirstReason)
	}
	t.row("  slowest of them ÷ one alone\t%.2f\tat most %.1f, %s", f.SharedRatio, mostShared, met(f.SharedRatio <= mostShared))
	t.row("  first answer ÷ daemon's start-up\t%.2f\tat most %.1f, %s", f.FirstAnswerRatio, mostFirst, met(f.FirstAnswerRatio <= mostFirst))
	t.row("medians, ms")
	t.row("  the slowest, of those that start broker and daemon\t%.1f", f.SlowestMS)
	t.row("  the slowest, with both running\t%.1f", f.WarmMS)
	t.row("  one alone that starts both\t%.1f", f.AloneMS)
	t.row("  the same, its own start included\t%.1f", f.FirstMS)
	t.row("  a daemon alone, until it listens\t%.1f", f.DaemonMS)
	return t.Flush()
}

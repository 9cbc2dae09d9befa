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
type ColdFigures struct {
	Clients int `json:"clients"` // that call at once
	Rounds  int `json:"rounds"`
	ColdCosts
	// AtOnce is the same with a daemon that listens as soon as it runs, whose start-up is
	// that of a process; nil where StartupMS is 0 anyway.
	AtOnce *ColdCosts `json:"listens_at_once,omitempty"`
}

// ColdCosts are the figures of one kind of daemon. Times are medians over the rounds, in ms.
type ColdCosts struct {
	BrokersStarted   int     `json:"brokers_started"` // for the clients that call at once, in all rounds
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

	shared, warm, alone, first, daemon []float64
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
	// DefaultColdStartup is what a daemon needs that reads an index, or its settings and a
	// cache, before it serves.
	DefaultColdStartup = 250 * time.Millisecond
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

// cold is a measurement under way, with one kind of daemon.
type cold struct {
	program string
	clients int
	startup time.Duration
	costs   *ColdCosts
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
	f := &ColdFigures{Clients: what.Clients, Rounds: what.Rounds}
	kinds := []*cold{{o.Program, what.Clients, what.Startup, &f.ColdCosts}}
	if what.Startup > 0 {
		f.AtOnce = &ColdCosts{}
		kinds = append(kinds, &cold{o.Program, what.Clients, 0, f.AtOnce})
	}
	var measures []func(context.Context) error
	for _, c := range kinds {
		measures = append(measures, c.measures()...)
	}
	rng := rand.New(rand.NewPCG(1, 0))
	for round := range what.Rounds {
		o.Progress(fmt.Sprintf("first calls, round %d of %d", round+1, what.Rounds))
		for _, i := range rng.Perm(len(measures)) {
			if err := measures[i](ctx); err != nil {
				return nil, err
			}
		}
	}
	for _, c := range kinds {
		c.conclude()
	}
	return f, nil
}

// measures are what is done in a round, each from nothing.
func (c *cold) measures() (all []func(context.Context) error) {
	for _, f := range []func(context.Context, *world.World) error{
		c.shared,
		func(ctx context.Context, w *world.World) error {
			return note(&c.costs.alone)(c.together(ctx, w, 1))
		},
		func(ctx context.Context, w *world.World) error { return note(&c.costs.first)(c.first(ctx, w)) },
		func(ctx context.Context, w *world.World) error { return note(&c.costs.daemon)(c.daemon(ctx, w)) },
	} {
		all = append(all, func(ctx context.Context) error { return c.fromNothing(ctx, f) })
	}
	return all
}

// note appends a time that was measured to times.
func note(times *[]float64) func(took float64, err error) error {
	return func(took float64, err error) error {
		if err == nil {
			*times = append(*times, took)
		}
		return err
	}
}

// conclude takes the medians.
func (c *cold) conclude() {
	f := c.costs
	f.StartupMS = ms(c.startup)
	f.SlowestMS, f.WarmMS, f.AloneMS, f.FirstMS, f.DaemonMS = median(f.shared), median(f.warm), median(f.alone), median(f.first), median(f.daemon)
	f.SharedRatio, f.FirstAnswerRatio = f.SlowestMS/f.AloneMS, f.FirstMS/f.DaemonMS
}

func ms(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// fromNothing has f measure where nothing runs, and ends what it leaves.
func (c *cold) fromNothing(ctx context.Context, f func(context.Context, *world.World) error) (err error) {
	w, err := world.New(ctx, serviceName, c.program)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	w.Env = append(w.Env, "HOME="+w.Dir, startupVariable+"="+c.startup.String())
	if err := w.CountStarts(coldTool.Name); err != nil {
		return err
	}
	err = f(ctx, w)
	return errors.Join(err, w.EndDetached(append(w.Started(coldTool.Name, launch.RoleBroker), w.Started(coldTool.Name, launch.RoleDaemon)...)...))
}

// shared has the clients call at once, and again with broker and daemon running.
func (c *cold) shared(ctx context.Context, w *world.World) error {
	if err := note(&c.costs.shared)(c.together(ctx, w, c.clients)); err != nil {
		return err
	}
	c.costs.BrokersStarted += len(w.Started(coldTool.Name, launch.RoleBroker))
	c.costs.DaemonsStarted += len(w.Started(coldTool.Name, launch.RoleDaemon))
	return note(&c.costs.warm)(c.together(ctx, w, c.clients))
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
		if c.costs.Failures++; c.costs.FirstReason == "" {
			c.costs.FirstReason = m.Error
		}
	}
	return ms(time.Unix(0, m.AtNS).Sub(from)), p.Quit()
}

// Write shows the figures as text.
func (f *ColdFigures) Write(w io.Writer) error {
	t := newTable(w)
	t.row("%d first calls at once, %d rounds\t\tgoal", f.Clients, f.Rounds)
	f.write(t, f.Rounds)
	if f.AtOnce != nil {
		f.AtOnce.write(t, f.Rounds)
	}
	return t.Flush()
}

func (f *ColdCosts) write(t *table, rounds int) {
	if f.StartupMS > 0 {
		t.row("a daemon that works %g ms before it listens", f.StartupMS)
	} else {
		t.row("a daemon that listens at once")
	}
	t.row("  brokers started\t%d\t%d, %s", f.BrokersStarted, rounds, met(f.BrokersStarted == rounds))
	t.row("  daemons started\t%d\t%d, %s", f.DaemonsStarted, rounds, met(f.DaemonsStarted == rounds))
	t.row("  failures\t%d\t0, %s", f.Failures, met(f.Failures == 0))
	if f.FirstReason != "" {
		t.row("    the first: %s", f.FirstReason)
	}
	t.row("  slowest of them ÷ one alone\t%.2f\tat most %.1f, %s", f.SharedRatio, mostShared, met(f.SharedRatio <= mostShared))
	t.row("  first answer ÷ daemon's start-up\t%.2f\tat most %.1f, %s", f.FirstAnswerRatio, mostFirst, met(f.FirstAnswerRatio <= mostFirst))
	t.row("  the slowest, of those that start broker and daemon\t%.1f ms", f.SlowestMS)
	t.row("  the slowest, with both running\t%.1f ms", f.WarmMS)
	t.row("  one alone that starts both\t%.1f ms", f.AloneMS)
	t.row("  the same, its own start included\t%.1f ms", f.FirstMS)
	t.row("  a daemon alone, until it listens\t%.1f ms", f.DaemonMS)
}

// Package bench measures what a handoff costs against reconnecting and against the
// C floor, with real processes. It is `usher bench`.
//
// A program: it may import everything. Its child processes run in the roles of
// roles.go and end with their standard input.
package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/seed-7265657e/usher/bench/cfloor"
)

// Options configure a run.
type Options struct {
	// Program is the usher executable, which runs in the benchmark's roles.
	Program string
	// Restarts is how often all processes are started anew, and Pairs how many
	// rounds are kept of each start.
	Restarts, Pairs int
	// Quick measures the same with far fewer samples: what needs more is null.
	Quick bool
	// Floor is the exchange that the C floor makes; usher's own when empty.
	Floor cfloor.Claims
	// Progress, when set, hears what is being measured.
	Progress func(what string)
}

// Defaults of Options.
const (
	DefaultRestarts = 5
	DefaultPairs    = 4000
)

func (o *Options) complete() error {
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if o.Quick {
		o.Restarts, o.Pairs = 1, 400
	}
	if o.Floor == "" {
		o.Floor = cfloor.Page
	}
	if o.Restarts <= 0 {
		o.Restarts = DefaultRestarts
	}
	if o.Pairs <= 0 {
		o.Pairs = DefaultPairs
	}
	return nil
}

// Series are the latencies of one way to get an answer, in µs, a slice for each
// restart.
type Series struct {
	Stack string `json:"stack"`
	Arm   string `json:"arm"`
	P50   Figure `json:"p50"`
	P90   Figure `json:"p90"`
	// P99 is missing where there are too few samples.
	P99 *Figure `json:"p99"`
	// Quantiles are the latencies that no more than 0, 1/N, … N/N of the samples
	// exceed, for N steps: what a drawing needs of the samples.
	Quantiles []float64 `json:"quantiles_us"`

	samples [][]float64
}

// Names of the stacks.
const (
	usherInline = "usher"
	usherPlain  = "usher, Accept and goroutine"
	cFloor      = "C floor"
)

const quantileSteps = 400

// Setting is one way to run the processes, and what was measured so.
type Setting struct {
	Name   string    `json:"name"`
	Series []*Series `json:"series"`
}

func (s *Setting) find(stack, arm string) *Series {
	for _, series := range s.Series {
		if series.Stack == stack && series.Arm == arm {
			return series
		}
	}
	return nil
}

// Cost is what one handoff costs a stack, on average: processor time in µs, and
// allocations where the process is usher's.
type Cost struct {
	Stack          string  `json:"stack"`
	BrokerUS       float64 `json:"broker_cpu_us"`
	BackendUS      float64 `json:"backend_cpu_us"`
	ClientUS       float64 `json:"client_cpu_us"`
	BrokerMallocs  float64 `json:"broker_mallocs,omitempty"`
	BackendMallocs float64 `json:"backend_mallocs,omitempty"`
	ClientMallocs  float64 `json:"client_mallocs"`
}

// measure runs rounds of arms on every stack, with all processes anew at each
// restart.
func (s *site) measure(ctx context.Context, o Options, name string, r rounds, withFloor bool) (*Setting, error) {
	setting := &Setting{Name: name}
	for restart := range o.Restarts {
		o.Progress(fmt.Sprintf("%s, start %d of %d", name, restart+1, o.Restarts))
		if err := s.once(ctx, setting, r, uint64(restart), withFloor); err != nil {
			return nil, err
		}
	}
	for _, series := range setting.Series {
		if err := series.sum(); err != nil {
			return nil, err
		}
	}
	return setting, nil
}

func (s *site) once(ctx context.Context, setting *Setting, r rounds, seed uint64, withFloor bool) (err error) {
	w, err := s.raise(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.end()) }()
	stacks := []string{usherInline, usherPlain}
	r.Targets, r.Seed = []target{w.inline, w.plain}, seed
	if withFloor && w.floor != nil {
		stacks, r.Targets = append(stacks, cFloor), append(r.Targets, w.floorTarget())
	}
	var got result
	if err := w.client.Ask(ctx, order{Rounds: &r}, &got); err != nil {
		return err
	}
	for i, stack := range stacks {
		for j, arm := range r.Arms {
			series := setting.find(stack, arm)
			if series == nil {
				series = &Series{Stack: stack, Arm: arm}
				setting.Series = append(setting.Series, series)
			}
			series.samples = append(series.samples, got.Samples[i][j])
		}
	}
	return nil
}

func (s *Series) sum() (err error) {
	if s.P50, err = Percentile(s.samples, 0.50); err != nil {
		return err
	}
	if s.P90, err = Percentile(s.samples, 0.90); err != nil {
		return err
	}
	if p99, err := Percentile(s.samples, 0.99); err == nil {
		s.P99 = &p99
	}
	sorted := slices.Sorted(slices.Values(slices.Concat(s.samples...)))
	for i := range quantileSteps + 1 {
		s.Quantiles = append(s.Quantiles, sorted[i*(len(sorted)-1)/quantileSteps])
	}
	return nil
}

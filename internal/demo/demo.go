package demo

import (
	"context"
	"errors"
	"fmt"
)

// DefaultRequests is how many requests the first scenario makes.
const DefaultRequests = 200

// MaxRequests bounds Options.Requests.
const MaxRequests = 10_000

// Options configure Run.
type Options struct {
	// Program is the usher executable: it runs as broker ("serve") and in the
	// demo's roles ("demo-role").
	Program string
	// Requests is how many requests the first scenario makes; the others make a
	// part of it, or a few.
	Requests int
	// Keep leaves the directory with definitions and logs behind.
	Keep bool
	// Progress, when set, is called with the name of each scenario that begins.
	Progress func(scenario string)
}

// Result is what happened. Its JSON form is the output of `usher demo --json`.
type Result struct {
	// Requests is the sum of all scenarios'. Those that are neither in HandedOver
	// nor in Reconnected nor in Unknown nor in Lost were refused unsent.
	Requests    int `json:"requests"`
	HandedOver  int `json:"handed_over"` // answered on a handed-over connection
	Reconnected int `json:"reconnected"` // answered on a connection to the backend's pipe
	Unknown     int `json:"unknown"`     // reported as possibly run, never repeated

	ExecutedTwice int `json:"executed_twice"` // requests that ran more than once
	Lost          int `json:"lost"`           // requests with neither answer nor verdict
	FDsLeaked     int `json:"fds_leaked"`

	Scenarios []Scenario `json:"scenarios"`
	Timeline  []Step     `json:"timeline"`

	dir string // kept, or empty
}

// Scenario is one thing that was tried.
type Scenario struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// OK reports whether everything held.
func (r *Result) OK() bool {
	for _, s := range r.Scenarios {
		if !s.OK {
			return false
		}
	}
	return r.ExecutedTwice == 0 && r.Lost == 0 && r.FDsLeaked == 0
}

// scenarios in their order. Each returns what it saw, and an error when
// something did not hold.
var scenarios = []struct {
	name string
	play func(*stage, context.Context) (string, error)
}{
	{"one-binary", (*stage).oneBinary},
	{"replaced-build", (*stage).replacedBuild},
	{"handed-over", (*stage).handedOver},
	{"reconnect", (*stage).reconnect},
	{"keep-alive", (*stage).keepAlive},
	{"frozen-backend", (*stage).frozenBackend},
	{"killed-backend", (*stage).killedBackend},
	{"killed-after-adopting", (*stage).killedAfterAdopting},
	{"broker-restart", (*stage).brokerRestart},
	{"broker-upgrade", (*stage).brokerUpgrade},
	{"no-leaks", (*stage).noLeaks},
}

// Run plays every scenario. The error says that the demo could not be played,
// or is ctx's; a scenario that fails is part of the Result.
func Run(ctx context.Context, opts Options) (result *Result, err error) {
	if opts.Requests < 1 || opts.Requests > MaxRequests {
		return nil, fmt.Errorf("%d requests: want 1 to %d", opts.Requests, MaxRequests)
	}
	s, err := newStage(ctx, opts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.set(ctx); err != nil {
		return nil, err
	}
	result = &Result{}
	for _, scenario := range scenarios {
		if opts.Progress != nil {
			opts.Progress(scenario.name)
		}
		detail, err := scenario.play(s, ctx)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		played := Scenario{Name: scenario.name, OK: err == nil, Detail: detail}
		if err != nil {
			played.Detail = err.Error()
		}
		result.Scenarios = append(result.Scenarios, played)
	}
	s.figures(ctx, result)
	return result, nil
}

// figures ends every process, so that all has been reported, and sums up.
func (s *stage) figures(ctx context.Context, r *Result) {
	if err := s.strike(ctx); err != nil {
		r.Scenarios = append(r.Scenarios, Scenario{Name: "orderly-end", Detail: err.Error()})
	}
	for _, t := range s.tallies {
		r.Requests += t.Requests
		r.HandedOver += t.HandedOver
		r.Reconnected += t.Reconnected
		r.Unknown += t.Unknown
		r.Lost += t.Lost
	}
	for _, times := range s.executed {
		if times > 1 {
			r.ExecutedTwice++
		}
	}
	r.FDsLeaked = s.fdsLeaked
	r.Timeline = s.drawn
	if s.opts.Keep {
		r.dir = s.Dir
	}
}

// check returns an error unless the fact holds.
func check(holds bool, format string, args ...any) error {
	if holds {
		return nil
	}
	return fmt.Errorf(format, args...)
}

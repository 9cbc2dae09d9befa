package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/world"
)

// Report is what `usher bench handoff` found. Its JSON has the twelve figures by
// name, null where they could not be measured, and why not in Reasons.
type Report struct {
	RatioReconnectP50      *float64 `json:"ratio_reconnect_p50"`
	RatioReconnectP99      *float64 `json:"ratio_reconnect_p99"`
	RatioReconnectColdP50  *float64 `json:"ratio_reconnect_cold_p50"`
	RatioReconnectPlainP50 *float64 `json:"ratio_reconnect_plain_p50"`
	RatioCFloorP50         *float64 `json:"ratio_cfloor_p50"`
	RatioCFloorOneCPUP50   *float64 `json:"ratio_cfloor_onecpu_p50"`
	LoadRatioCFloor        *float64 `json:"load_ratio_cfloor"`
	BrokerCPURatioCFloor   *float64 `json:"broker_cpu_ratio_cfloor"`
	DataRTTRatio           *float64 `json:"data_rtt_ratio"`
	DataThroughputRatio    *float64 `json:"data_throughput_ratio"`
	TokenScaleRatio        *float64 `json:"token_scale_ratio"`
	RSSDeltaBytes          *float64 `json:"rss_delta_bytes"`

	Reasons  map[string]string `json:"reasons"`
	Goals    []*Goal           `json:"goals"`
	OK       bool              `json:"ok"` // every goal measured and reached
	Settings []*Setting        `json:"settings"`
	Costs    []Cost            `json:"costs"`
	Load     []LoadFigure      `json:"load"`
	System   System            `json:"system"`
	// Timeline is one handoff of median length, in the order of time.
	Timeline []Mark `json:"timeline"`
}

// System is where it was measured.
type System struct {
	Floor  string `json:"cfloor_claims"` // what claims are in the C floor: a page, or descriptors
	CPUs   int    `json:"cpus"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
}

// Goal is one figure and what it should be. Where there is an interval its upper
// end counts.
type Goal struct {
	Key    string  `json:"key"`
	Text   string  `json:"text"`
	Least  float64 `json:"least,omitempty"`
	Most   float64 `json:"most,omitempty"`
	Figure *Figure `json:"figure"` // nil when not measured
	OK     bool    `json:"ok"`
}

func figureOf(v float64) *Figure { return &Figure{v, v, v} }

// enter notes a figure, or why there is none.
func (r *Report) enter(g Goal, field **float64, f *Figure, err error) {
	r.Goals = append(r.Goals, &g)
	if err != nil || f == nil {
		if err == nil {
			err = errors.New("not measured")
		}
		r.Reasons[g.Key] = err.Error()
		return
	}
	g.Figure = f
	if field != nil {
		*field = &f.Value
	}
	g.OK = (g.Most == 0 || f.High <= g.Most) && (g.Least == 0 || f.Low >= g.Least)
}

// Handoff measures everything and judges it.
func Handoff(ctx context.Context, o Options) (r *Report, err error) {
	err = with(ctx, &o, func(s *site) error { r, err = s.handoff(ctx, o); return err })
	return r, err
}

func (s *site) handoff(ctx context.Context, o Options) (*Report, error) {
	r := &Report{Reasons: map[string]string{}, System: System{string(o.Floor), runtime.NumCPU(), kernel(), runtime.Version()}}
	gated := rounds{Arms: []string{handedOver, reconnect}, Warm: 100, Pairs: o.Pairs}
	free, err := s.measure(ctx, o, "unpinned", gated, true)
	if err != nil {
		return nil, err
	}
	var pinned *Setting
	if err := onOneCPU(func() (err error) { pinned, err = s.measure(ctx, o, "on one processor", gated, true); return err }); err != nil {
		return nil, err
	}
	cold := gated
	cold.GapUS, cold.Pairs = 5000, max(o.Pairs/20, 100)
	cold.Warm = burst
	chilled, err := s.measure(ctx, o, "cold: 5 ms gaps", cold, false)
	if err != nil {
		return nil, err
	}
	others := rounds{Arms: []string{handedOver, afterReply, helloSkip, direct}, Warm: 100, Pairs: max(o.Pairs/4, 100)}
	once := o
	once.Restarts = 1
	second, err := s.measure(ctx, once, "other ways, in a run of their own", others, false)
	if err != nil {
		return nil, err
	}
	r.Settings = []*Setting{free, pinned, chilled, second}
	o.Progress("one handoff")
	if r.Timeline, err = s.timeline(ctx); err != nil {
		return nil, err
	}

	compare := func(s *Setting, stack, arm, against, as string, p float64) (*Figure, error) {
		num, den := s.find(stack, arm), s.find(against, as)
		if num == nil || den == nil {
			return nil, errors.New("no C floor")
		}
		f, err := ratio(num.samples, den.samples, p)
		return &f, err
	}
	floorless := func(f *Figure, err error) (*Figure, error) {
		if s.noFloor != nil {
			return nil, s.noFloor
		}
		return f, err
	}
	f, err := compare(free, usherInline, handedOver, usherInline, reconnect, 0.50)
	r.enter(Goal{Key: "ratio_reconnect_p50", Text: "handoff ÷ reconnect, P50", Most: 0.70}, &r.RatioReconnectP50, f, err)
	f, err = compare(free, usherInline, handedOver, usherInline, reconnect, 0.99)
	r.enter(Goal{Key: "ratio_reconnect_p99", Text: "handoff ÷ reconnect, P99", Most: 0.75}, &r.RatioReconnectP99, f, err)
	f, err = compare(chilled, usherInline, handedOver, usherInline, reconnect, 0.50)
	r.enter(Goal{Key: "ratio_reconnect_cold_p50", Text: "the same cold, P50", Most: 0.80}, &r.RatioReconnectColdP50, f, err)
	f, err = compare(free, usherPlain, handedOver, usherPlain, reconnect, 0.50)
	r.enter(Goal{Key: "ratio_reconnect_plain_p50", Text: "the same with Accept and a goroutine, P50", Most: 0.80}, &r.RatioReconnectPlainP50, f, err)
	f, err = floorless(compare(free, usherInline, handedOver, cFloor, handedOver, 0.50))
	r.enter(Goal{Key: "ratio_cfloor_p50", Text: "handoff ÷ C floor, P50", Most: 1.25}, &r.RatioCFloorP50, f, err)
	f, err = floorless(compare(pinned, usherInline, handedOver, cFloor, handedOver, 0.50))
	r.enter(Goal{Key: "ratio_cfloor_onecpu_p50", Text: "the same on one processor, P50", Most: 1.35}, &r.RatioCFloorOneCPUP50, f, err)

	if err := s.rest(ctx, o, r); err != nil {
		return nil, err
	}
	r.OK = !slices.ContainsFunc(r.Goals, func(g *Goal) bool { return !g.OK })
	return r, nil
}

// rest measures what needs no pairs.
func (s *site) rest(ctx context.Context, o Options, r *Report) error {
	o.Progress("cost of one handoff")
	costs, err := s.costs(ctx, o)
	if err != nil {
		return err
	}
	r.Costs = costs
	if s.noFloor != nil {
		r.enter(Goal{Key: "broker_cpu_ratio_cfloor", Text: "broker CPU per handoff ÷ C floor", Most: 1.5}, nil, nil, s.noFloor)
	} else {
		r.enter(Goal{Key: "broker_cpu_ratio_cfloor", Text: "broker CPU per handoff ÷ C floor", Most: 1.5},
			&r.BrokerCPURatioCFloor, figureOf(costs[0].BrokerUS/costs[1].BrokerUS), nil)
	}
	for _, clients := range []int{8, 64} {
		figure, err := s.load(ctx, o, clients)
		if err != nil {
			return err
		}
		r.Load = append(r.Load, *figure)
	}
	eight, many := r.Load[0], r.Load[1]
	r.enter(Goal{Key: "load_ratio_cfloor", Text: "handoffs/s with 8 clients ÷ C floor", Least: 0.9}, &r.LoadRatioCFloor, eight.Ratio, s.noFloor)
	r.enter(Goal{Key: "load64_p99_ratio_cfloor", Text: "P99 with 64 clients ÷ C floor", Most: 1.5}, nil, many.P99Ratio, s.noFloor)

	rtt, throughput, err := s.data(ctx, o)
	if err != nil {
		return err
	}
	r.enter(Goal{Key: "data_rtt_ratio", Text: "round trip, handed over ÷ direct", Least: 0.97, Most: 1.03}, &r.DataRTTRatio, rtt, nil)
	r.enter(Goal{Key: "data_throughput_ratio", Text: "throughput, handed over ÷ direct", Least: 0.97, Most: 1.03}, &r.DataThroughputRatio, throughput, nil)

	o.Progress("tokens")
	tokens := Tokens(o)
	r.enter(Goal{Key: "token_scale_ratio", Text: "issue + consume, 100,000 pending ÷ 10", Most: 1.2}, &r.TokenScaleRatio, figureOf(tokens.Ratio), nil)

	memory, err := s.memory(ctx, o, memoryConnections(o))
	if err != nil {
		return err
	}
	r.enter(Goal{Key: "rss_delta_bytes", Text: fmt.Sprintf("broker memory with %d live connections, bytes", memory.Connections), Most: 1 << 20},
		&r.RSSDeltaBytes, figureOf(float64(memory.RSSDelta)), nil)
	return nil
}

// costs counts processor time per handoff, with nothing but handoffs.
func (s *site) costs(ctx context.Context, o Options) (costs []Cost, err error) {
	w, err := s.raise(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.end()) }()
	type stack struct {
		name            string
		target          target
		broker, backend int
	}
	stacks := []stack{{usherInline, w.inline, w.inlineBroker.PID(), w.inlineBack.PID()}}
	if w.floor != nil {
		stacks = append(stacks, stack{cFloor, w.floorTarget(), w.floor.BrokerPID, w.floor.BackendPID})
	}
	n := max(o.Pairs, 1000)
	for _, k := range stacks {
		r := rounds{Targets: []target{k.target}, Arms: []string{handedOver}, Pairs: 200}
		var got result
		if err := w.client.Ask(ctx, order{Rounds: &r}, &got); err != nil { // warm
			return nil, err
		}
		pids := []int{k.broker, k.backend, w.client.PID()}
		var before, after [3]time.Duration
		for i, pid := range pids {
			if before[i], err = world.CPUTime(pid); err != nil {
				return nil, err
			}
		}
		r.Pairs = n
		if err := w.client.Ask(ctx, order{Rounds: &r}, &got); err != nil {
			return nil, err
		}
		var per [3]float64
		for i, pid := range pids {
			if after[i], err = world.CPUTime(pid); err != nil {
				return nil, err
			}
			per[i] = float64((after[i] - before[i]).Nanoseconds()) / 1e3 / float64(got.Done)
		}
		costs = append(costs, Cost{Stack: k.name, BrokerUS: per[0], BackendUS: per[1], ClientUS: per[2],
			ClientMallocs: float64(got.Mallocs) / float64(got.Done)})
	}
	return costs, s.mallocs(ctx, w, &costs[0], n)
}

// mallocs counts the allocations per handoff of usher's own processes.
func (s *site) mallocs(ctx context.Context, w *processes, cost *Cost, n int) error {
	var before, after [2]usage
	ask := func(into *[2]usage) error {
		return errors.Join(w.inlineBroker.Ask(ctx, question{}, &into[0]), w.inlineBack.Ask(ctx, question{}, &into[1]))
	}
	if err := ask(&before); err != nil {
		return err
	}
	var got result
	r := rounds{Targets: []target{w.inline}, Arms: []string{handedOver}, Pairs: n}
	if err := w.client.Ask(ctx, order{Rounds: &r}, &got); err != nil {
		return err
	}
	if err := ask(&after); err != nil {
		return err
	}
	cost.BrokerMallocs = float64(after[0].Mallocs-before[0].Mallocs) / float64(got.Done)
	cost.BackendMallocs = float64(after[1].Mallocs-before[1].Mallocs) / float64(got.Done)
	return nil
}

// TokenFigures are what issuing and consuming one token costs, in ns, by how many
// others are pending.
type TokenFigures struct {
	NS    map[int]float64 `json:"ns"`
	Ratio float64         `json:"ratio"` // 100,000 pending ÷ 10
}

// Tokens measures the table of handoffs in flight: one issued, the oldest one
// acknowledged, as in a steady flow. The sizes alternate; medians count.
func Tokens(o Options) TokenFigures {
	sizes := []int{10, 10_000, 100_000}
	const batch, batches = 2000, 60
	tables := make([]*handoff.Table, len(sizes))
	pending := make([][]handoff.Attempt, len(sizes)) // and one more, which is not
	now := time.Now()
	for i, n := range sizes {
		config := handoff.DefaultConfig()
		config.MaxPending = 200_000
		tables[i] = handoff.NewTable(config)
		pending[i] = make([]handoff.Attempt, n+1)
		for at := range n {
			if err := tables[i].Issue(&pending[i][at], handoff.DefaultAckDeadline, now); err != nil {
				panic(err) // crypto/rand does not fail
			}
		}
	}
	took := make([][]float64, len(sizes))
	next := slices.Clone(sizes) // the one that is not pending; behind it comes the oldest
	for range batches {
		for i, table := range tables {
			began := time.Now()
			for range batch {
				_ = table.Issue(&pending[i][next[i]], handoff.DefaultAckDeadline, now)
				next[i] = (next[i] + 1) % len(pending[i])
				oldest := &pending[i][next[i]]
				token := oldest.Token()
				oldest.Answered(handoff.Ack{Token: token[:], Accepted: true}, now)
			}
			took[i] = append(took[i], float64(time.Since(began).Nanoseconds())/batch)
		}
	}
	f := TokenFigures{NS: map[int]float64{}}
	for i, n := range sizes {
		slices.Sort(took[i])
		f.NS[n] = took[i][len(took[i])/2]
	}
	f.Ratio = f.NS[100_000] / f.NS[10]
	return f
}

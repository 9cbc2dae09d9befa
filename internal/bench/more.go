package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// LoadFigure is a closed loop of clients against usher and the C floor.
type LoadFigure struct {
	Clients  int     `json:"clients"`
	Usher    Rate    `json:"usher"`
	CFloor   *Rate   `json:"cfloor"`
	Ratio    *Figure `json:"ratio"`     // handoffs/s ÷ the C floor's
	P99Ratio *Figure `json:"p99_ratio"` // P99 ÷ the C floor's
}

// Rate is what one stack bore.
type Rate struct {
	PerSecond float64 `json:"handoffs_per_second"`
	P50       float64 `json:"p50_us"`
	P99       float64 `json:"p99_us"`
}

// Load measures LoadFigure for a number of clients.
func Load(ctx context.Context, o Options, clients int) (f *LoadFigure, err error) {
	err = with(ctx, &o, func(s *site) error { f, err = s.load(ctx, o, clients); return err })
	return f, err
}

func with(ctx context.Context, o *Options, f func(*site) error) error {
	if err := o.complete(); err != nil {
		return err
	}
	s, err := newSite(ctx, o.Program, o.Floor)
	if err != nil {
		return err
	}
	return errors.Join(f(s), s.Close())
}

func (s *site) load(ctx context.Context, o Options, clients int) (f *LoadFigure, err error) {
	w, err := s.raise(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.end()) }()
	stacks := []target{w.inline}
	if w.floor != nil {
		stacks = append(stacks, w.floorTarget())
	}
	slices, seconds := 7, 1.0
	if o.Quick {
		slices, seconds = 3, 0.2
	}
	rates := make([][]float64, len(stacks))
	took := make([][][]float64, len(stacks))
	for slice := range slices {
		o.Progress(fmt.Sprintf("%d clients, slice %d of %d", clients, slice+1, slices))
		for i, t := range stacks {
			var got result
			if err := w.client.Ask(ctx, order{Load: &load{Target: t, Clients: clients, Seconds: seconds}}, &got); err != nil {
				return nil, err
			}
			if slice > 0 { // the first is for warming up
				rates[i] = append(rates[i], float64(got.Done)/got.Seconds)
				took[i] = append(took[i], got.Samples[0][0])
			}
		}
	}
	f = &LoadFigure{Clients: clients}
	if f.Usher, err = rate(rates[0], took[0]); err != nil || w.floor == nil {
		return f, err
	}
	floor, err := rate(rates[1], took[1])
	f.CFloor = &floor
	f.Ratio, f.P99Ratio = figureOf(f.Usher.PerSecond/floor.PerSecond), figureOf(f.Usher.P99/floor.P99)
	return f, err
}

func rate(perSecond []float64, took [][]float64) (r Rate, err error) {
	r.PerSecond = median(perSecond)
	all := slices.Concat(took...)
	slices.Sort(all)
	if err := enough(len(all), 0.99); err != nil {
		return r, err
	}
	r.P50, r.P99 = all[len(all)/2], all[len(all)*99/100]
	return r, nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// DataFigures compare an open connection that was handed over with one that was
// dialled directly.
type DataFigures struct {
	RTT        *Figure `json:"rtt_ratio"`
	Throughput *Figure `json:"throughput_ratio"`
}

// Data measures DataFigures.
func Data(ctx context.Context, o Options) (f DataFigures, err error) {
	err = with(ctx, &o, func(s *site) error { f.RTT, f.Throughput, err = s.data(ctx, o); return err })
	return f, err
}

func (s *site) data(ctx context.Context, o Options) (rtt, throughput *Figure, err error) {
	w, err := s.raise(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, w.end()) }()
	pairs, trips, gulps := 20, 2000, 100
	if o.Quick {
		pairs, trips, gulps = 2, 500, 50
	}
	var trip, transfer [len(dataArms)][][]float64
	for pair := range pairs {
		o.Progress(fmt.Sprintf("data, connections %d of %d", pair+1, pairs))
		var got result
		if err := w.client.Ask(ctx, order{Data: &data{Target: w.plain, Trips: trips, Gulps: gulps, Seed: uint64(pair)}}, &got); err != nil {
			return nil, nil, err
		}
		for i := range dataArms {
			trip[i] = append(trip[i], got.Samples[0][i])
			transfer[i] = append(transfer[i], got.Samples[1][i])
		}
	}
	times, err := ratio(trip[0], trip[1], 0.50)
	if err != nil {
		return nil, nil, err
	}
	speeds, err := ratio(transfer[1], transfer[0], 0.50) // the longer it took, the slower
	return &times, &speeds, err
}

// MemoryFigure is what live handed-over connections cost the broker.
type MemoryFigure struct {
	Connections int   `json:"connections"`
	RSSDelta    int64 `json:"rss_delta_bytes"`
	FDDelta     int   `json:"fd_delta"`
}

// Memory measures MemoryFigure. Before the first look as many connections have come
// and gone, so that what the broker needs to hand them over is not counted as what
// it keeps of them.
func Memory(ctx context.Context, o Options, connections int) (f *MemoryFigure, err error) {
	err = with(ctx, &o, func(s *site) error { f, err = s.memory(ctx, o, connections); return err })
	return f, err
}

func memoryConnections(o Options) int {
	if o.Quick {
		return 500
	}
	return 10_000
}

func (s *site) memory(ctx context.Context, o Options, connections int) (f *MemoryFigure, err error) {
	o.Progress(fmt.Sprintf("memory with %d connections", connections))
	w, err := s.raise(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.end()) }()
	look := func(number int) (rss int64, fds int, err error) {
		if err := w.client.Ask(ctx, order{Hold: &hold{Target: w.inline, Number: number}}, &result{}); err != nil {
			return 0, 0, err
		}
		var seen []float64
		for range 9 {
			time.Sleep(50 * time.Millisecond) // for the broker's last acknowledgements
			now, err := w.inlineBroker.ResidentSet()
			if err != nil {
				return 0, 0, err
			}
			seen = append(seen, float64(now))
		}
		fds, err = w.inlineBroker.Descriptors()
		return int64(median(seen)), fds, err
	}
	if _, _, err := look(connections); err != nil {
		return nil, err
	}
	before, fdsBefore, err := look(0)
	if err != nil {
		return nil, err
	}
	after, fdsAfter, err := look(connections)
	if err != nil {
		return nil, err
	}
	return &MemoryFigure{Connections: connections, RSSDelta: after - before, FDDelta: fdsAfter - fdsBefore}, nil
}

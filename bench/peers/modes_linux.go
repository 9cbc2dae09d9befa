package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/seed-7265657e/usher/internal/stamp"
)

// modeRow is what was found out about one stack of a mode. Figures are nil when they could
// not be measured, and then Reason says why.
type modeRow struct {
	Mode   string `json:"mode"`
	Name   string `json:"name"`
	Note   string `json:"note"`
	Reason string `json:"reason,omitempty"`

	First      *figure `json:"first_answer_p50_us"`   // connect, request, answer; of listen-fds the one that starts the program
	Trip       *figure `json:"round_trip_p50_us"`     // on an open connection
	Throughput *figure `json:"throughput_mb_per_s"`   // echoed, there and back
	CPU        *figure `json:"cpu_us_per_connection"` // everything but the client, the program included
}

// figure is a value, and how it compares with the best of its mode: above 1 is worse.
type figure struct {
	Value float64 `json:"value"`
	// Ratio is 1 for the best; Low and High are its 95 % interval.
	Ratio float64 `json:"ratio_to_best"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// measureModes gives every stack of every mode, or of those that are chosen, its turn in each
// round.
func (s *site) measureModes(ctx context.Context, rounds int, chosen map[string]bool, progress func(string)) ([]modeRow, error) {
	stacks := slices.Concat(inetdStacks, listenStacks, relayStacks)
	for mode := range chosen {
		if !slices.ContainsFunc(stacks, func(k stack) bool { return k.mode == mode }) {
			return nil, fmt.Errorf("no mode is called %q", mode)
		}
	}
	if len(chosen) > 0 {
		stacks = slices.DeleteFunc(stacks, func(k stack) bool { return !chosen[k.mode] })
	}
	if err := s.define(rounds); err != nil {
		return nil, err
	}
	time.Sleep(2 * stamp.Racy) // a definition that has just been written is read each time, and not watched
	var err error
	if s.brokers, err = s.start(nil, s.self, "role", "broker", s.Socket()); err != nil {
		return nil, err
	}
	backend, err := s.start(nil, s.self, "role", "listen", s.backendPipe())
	if err != nil {
		return nil, err
	}
	entries, err := s.play(ctx, rounds, stacks, nil, backend, progress)
	if err != nil {
		return nil, err
	}
	var rows []modeRow
	for _, e := range entries {
		e.close()
		row := modeRow{Mode: e.mode, Name: e.Name, Note: e.Note, Reason: e.Reason}
		var all []*entry
		for _, other := range entries {
			if other.mode == e.mode && other.Reason == "" {
				all = append(all, other)
			}
		}
		if e.Reason == "" {
			row.First, row.Trip = compare(e, all, firstMedian), compare(e, all, tripMedian)
			row.Throughput, row.CPU = compare(e, all, moved), compare(e, all, cpuPerConnection)
			row.Throughput.Value = bulk / 1e6 / row.Throughput.Value
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// What samples are judged by; less is better.

func firstMedian(samples []sample) float64 {
	return median(samples, func(t sample) []float64 { return t.first })
}

func tripMedian(samples []sample) float64 {
	return median(samples, func(t sample) []float64 { return t.trip })
}

func median(samples []sample, of func(sample) []float64) float64 {
	var all []float64
	for _, t := range samples {
		all = append(all, of(t)...)
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// moved is in seconds, for bulk bytes.
func moved(samples []sample) (mean float64) {
	for _, t := range samples {
		mean += t.moved.Seconds() / float64(len(samples))
	}
	return mean
}

// cpuPerConnection is in µs.
func cpuPerConnection(samples []sample) float64 {
	var spent float64
	conns := 0
	for _, t := range samples {
		spent, conns = spent+micros(t.cpu), conns+t.conns
	}
	return spent / float64(conns)
}

// compare is e's figure beside the best of all. The interval is a bootstrap's that draws
// whole rounds, the same for both.
func compare(e *entry, all []*entry, of func([]sample) float64) *figure {
	best := slices.MinFunc(all, func(a, b *entry) int {
		if of(a.samples) < of(b.samples) {
			return -1
		}
		return 1
	})
	f := &figure{Value: of(e.samples), Ratio: of(e.samples) / of(best.samples)}
	const resamples = 1000
	rng := rand.New(rand.NewPCG(1, 2)) // the same data give the same interval
	drawn := make([]float64, resamples)
	mine, its := make([]sample, len(e.samples)), make([]sample, len(e.samples))
	for i := range drawn {
		for j := range mine {
			round := rng.IntN(len(mine))
			mine[j], its[j] = e.samples[round], best.samples[round]
		}
		drawn[i] = of(mine) / of(its)
	}
	slices.Sort(drawn)
	f.Low, f.High = drawn[resamples*25/1000], drawn[resamples*975/1000-1]
	return f
}

func writeModesText(w io.Writer, rows []modeRow) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\t\tfirst answer µs, P50\t\tround trip µs\t\techoed MB/s\t\tCPU µs\t\t")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Mode, r.Name, r.First, r.Trip, r.Throughput, r.CPU, r.Note+reason(r.Reason))
	}
	fmt.Fprintln(t, "\nBeside each figure: how many times worse than the best of its mode, with its 95 % interval. CPU: per connection, of everything but the client.")
	return t.Flush()
}

// String is two cells of a table.
func (f *figure) String() string {
	if f == nil {
		return "–\t"
	}
	return fmt.Sprintf("%.1f\t%.2f [%.2f–%.2f]", f.Value, f.Ratio, f.Low, f.High)
}

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/seed-7265657e/usher/internal/bench"
	"github.com/seed-7265657e/usher/internal/world"
)

// row is what was found out about one stack. Figures are nil when they could not be
// measured, and then Reason says why.
type row struct {
	Name   string `json:"name"`
	Note   string `json:"note"`
	Reason string `json:"reason,omitempty"`

	FirstP50   *float64 `json:"first_answer_p50_us"`         // connect, request, answer
	FirstP90   *float64 `json:"first_answer_p90_us"`         //
	Trip       *float64 `json:"round_trip_p50_us"`           // on an open connection
	Throughput *float64 `json:"throughput_mb_per_s"`         // echoed, there and back
	CPU        *float64 `json:"cpu_us_per_connection"`       // everything but the client
	Memory     *float64 `json:"memory_bytes_per_connection"` // of what stands between; of all where no backend stands behind
}

// entry is a stack under way.
type entry struct {
	*stack
	row
	processes []*world.Process
	between   []*world.Process // of them: what stands between
	conn      net.Conn
	samples   []sample // one a round
}

// sample is what one turn of a stack has given.
type sample struct {
	first, trip []float64     // µs
	moved       time.Duration // for how long bulk bytes travelled
	cpu         time.Duration
	conns       int // that cpu was spent on
}

const (
	connects = 10 // per round
	trips    = 20
	drop     = 3 // at the beginning of each, while the stack gets warm
	bulk     = 8 << 20
	held     = 200 // connections whose memory is measured
)

func (s *site) measure(ctx context.Context, rounds int, chosen map[string]bool, progress func(string)) ([]row, error) {
	backend, err := s.backend()
	if err != nil {
		return nil, err
	}
	for name := range chosen {
		if !slices.ContainsFunc(stacks, func(k stack) bool { return k.name == name }) {
			return nil, fmt.Errorf("no row is called %q", name)
		}
	}
	entries, err := s.play(ctx, rounds, stacks, chosen, backend, progress)
	if err != nil {
		return nil, err
	}
	progress("memory")
	rows := make([]row, 0, len(entries))
	for _, e := range entries {
		if e.Reason == "" {
			e.finish(ctx, s)
		}
		e.close()
		rows = append(rows, e.row)
	}
	return rows, nil
}

// play starts the stacks that are chosen, all when none is, and gives each its turn in every
// round, in random order. The caller closes the entries.
func (s *site) play(ctx context.Context, rounds int, stacks []stack, chosen map[string]bool, backend []*world.Process, progress func(string)) ([]*entry, error) {
	var entries, able []*entry
	for i := range stacks {
		k := &stacks[i]
		if len(chosen) > 0 && !chosen[k.name] {
			continue
		}
		e := &entry{stack: k, row: row{Name: k.name, Note: k.note}}
		entries = append(entries, e)
		progress("starting " + k.name)
		if err := s.begin(ctx, e, backend); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			e.Reason = err.Error()
			continue
		}
		able = append(able, e)
	}
	for n := range rounds {
		if n%10 == 0 {
			progress(fmt.Sprintf("round %d of %d", n+1, rounds))
		}
		rand.Shuffle(len(able), func(a, b int) { able[a], able[b] = able[b], able[a] })
		for _, e := range able {
			if e.Reason != "" {
				continue // it has failed
			}
			if err := s.turn(ctx, e); err != nil {
				e.Reason = err.Error()
			}
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return entries, nil
}

// close ends the connection for round trips.
func (e *entry) close() {
	if e.conn != nil {
		_ = e.conn.Close()
		e.conn = nil
	}
}

// begin starts a stack, has it do what it does once, and opens the connection for round trips.
func (s *site) begin(ctx context.Context, e *entry, backend []*world.Process) (err error) {
	if !e.alone {
		e.processes = append(e.processes, backend...)
	}
	if e.start != nil {
		p, err := e.start(s)
		if err != nil {
			return err
		}
		e.processes, e.between = append(e.processes, p...), p
	}
	if e.fresh != nil {
		return nil
	}
	if err := s.ready(ctx, e.stack); err != nil {
		return err
	}
	for range drop {
		c, err := e.stack.first(ctx, s)
		if err != nil {
			return err
		}
		if err := end(c, e.wait); err != nil {
			return err
		}
	}
	e.conn, err = e.stack.first(ctx, s)
	return err
}

// turn is one stack's part of a round.
func (s *site) turn(ctx context.Context, e *entry) (err error) {
	var t sample
	connects, cold := connects, drop
	if e.fresh != nil { // the first connection is the one that counts
		connects, cold = 1, 0
		if e.processes, err = e.fresh(ctx, s, len(e.samples)); err != nil {
			return err
		}
	}
	before, err := restingCPU(e.processes)
	if err != nil {
		return err
	}
	for n := range connects {
		began := time.Now()
		c, err := e.stack.first(ctx, s)
		if err != nil {
			return err
		}
		took := time.Since(began)
		if n >= cold {
			t.first = append(t.first, micros(took))
		}
		if e.fresh != nil {
			e.close()
			e.conn = c
		} else if err := end(c, e.wait); err != nil {
			return err
		}
	}
	after, err := restingCPU(e.processes)
	if err != nil {
		return err
	}
	t.cpu, t.conns = after-before, connects
	for n := range trips {
		began := time.Now()
		if err := exchange(e.conn, s.request, s.answer); err != nil {
			return err
		}
		if n >= drop {
			t.trip = append(t.trip, micros(time.Since(began)))
		}
	}
	began := time.Now()
	if err := move(e.conn, bulk); err != nil {
		return err
	}
	t.moved = time.Since(began)
	e.samples = append(e.samples, t)
	if e.over != nil {
		return e.over(e)
	}
	return nil
}

// restingCPU is the processor time of a stack once it has done what its start or its last
// connection has left behind: it says the same twice, with time to work between.
func restingCPU(processes []*world.Process) (spent time.Duration, err error) {
	before := time.Duration(-1)
	for range 20 { // it may never rest
		if spent, err = world.GroupCPU(processes...); err != nil || spent == before {
			break
		}
		before = spent
		time.Sleep(2 * time.Millisecond)
	}
	return spent, err
}

// end ends a connection. With wait it returns when the other end has closed it too: the end
// of a process does not disturb the start of the next.
func end(c net.Conn, wait bool) error {
	defer func() { _ = c.Close() }()
	if !wait {
		return nil
	}
	if err := c.(*net.UnixConn).CloseWrite(); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, c)
	return err
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// move has n bytes echoed.
func move(c net.Conn, n int64) error {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	wrote := make(chan error, 1)
	go func() {
		var err error
		for left, chunk := n, make([]byte, 64<<10); left > 0 && err == nil; left -= int64(len(chunk)) {
			_, err = c.Write(chunk[:min(left, int64(len(chunk)))])
		}
		wrote <- err
	}()
	_, err := io.CopyN(io.Discard, c, n)
	if err != nil {
		_ = c.SetDeadline(time.Unix(1, 0)) // the writer ends too
	}
	return cmp.Or(<-wrote, err)
}

// finish turns samples into figures.
func (e *entry) finish(ctx context.Context, s *site) {
	figure := func(samples []float64, p float64) *float64 {
		f, err := bench.Percentile([][]float64{samples}, p)
		if err != nil {
			e.Reason = err.Error()
			return nil
		}
		return &f.Value
	}
	var first, trip []float64
	for _, t := range e.samples {
		first, trip = append(first, t.first...), append(trip, t.trip...)
	}
	e.FirstP50, e.FirstP90, e.Trip = figure(first, 0.50), figure(first, 0.90), figure(trip, 0.50)
	throughput, perConnection := bulk/1e6/moved(e.samples), cpuPerConnection(e.samples)
	e.Throughput, e.CPU = &throughput, &perConnection
	if e.between == nil {
		return
	}
	var err error
	if e.Memory, err = s.hold(ctx, e); err != nil {
		e.Reason = err.Error()
	}
}

// hold is what one open connection occupies.
func (s *site) hold(ctx context.Context, e *entry) (*float64, error) {
	before, err := world.GroupMemory(e.between...)
	if err != nil {
		return nil, err
	}
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	for range held {
		c, err := e.stack.first(ctx, s)
		if err != nil {
			return nil, err
		}
		open = append(open, c)
	}
	after, err := world.GroupMemory(e.between...)
	if err != nil {
		return nil, err
	}
	per := float64(after-before) / held
	return &per, nil
}

func writeJSON(w io.Writer, rows any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(rows)
}

func writeText(w io.Writer, rows []row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tfirst answer µs, P50\tP90\tround trip µs\techoed MB/s\tCPU µs\tmemory KiB\t")
	for _, r := range rows {
		if r.FirstP50 == nil {
			fmt.Fprintf(t, "%s\t–\t–\t–\t–\t–\t–\t%s\n", r.Name, r.Note+reason(r.Reason))
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, cell(r.FirstP50, 1), cell(r.FirstP90, 1), cell(r.Trip, 1),
			cell(r.Throughput, 1), cell(r.CPU, 1), cell(r.Memory, 1<<10), r.Note+reason(r.Reason))
	}
	fmt.Fprintln(t, "\nPer connection: CPU of everything but the client, memory of what stands between.")
	return t.Flush()
}

func reason(r string) string {
	if r == "" {
		return ""
	}
	return ": " + strings.Join(strings.Fields(r), " ")
}

func cell(v *float64, unit float64) string {
	if v == nil {
		return "–"
	}
	return fmt.Sprintf("%.1f", *v/unit)
}

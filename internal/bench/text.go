package bench

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Bounds of what may be asked for.
const (
	MaxClients     = 1000
	MaxConnections = 50_000
)

type table struct{ *tabwriter.Writer }

func newTable(w io.Writer) *table { return &table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)} }

func (t *table) row(format string, args ...any) { _, _ = fmt.Fprintf(t.Writer, format+"\n", args...) }

// Write shows the report as text.
func (r *Report) Write(w io.Writer) error {
	t := newTable(w)
	for _, s := range r.Settings {
		t.row("%s, µs\tP50\t\tP90\tP99", s.Name)
		for _, x := range s.Series {
			p99 := "too few samples"
			if x.P99 != nil {
				p99 = fmt.Sprintf("%.0f", x.P99.Value)
			}
			t.row("  %s, %s\t%.1f\t[%.1f–%.1f]\t%.1f\t%s", x.Stack, x.Arm, x.P50.Value, x.P50.Low, x.P50.High, x.P90.Value, p99)
		}
		t.row("")
	}
	t.row("one handoff of median length\t\tµs")
	for _, m := range r.Timeline {
		t.row("  %s\t%s\t%.1f", m.Process, m.What, m.AtUS)
	}
	t.row("\ncost of one handoff\tbroker µs\tbackend µs\tclient µs\tallocations")
	for _, c := range r.Costs {
		t.row("  %s\t%.1f\t%.1f\t%.1f\t%.1f, %.1f, %.1f", c.Stack, c.BrokerUS, c.BackendUS, c.ClientUS, c.BrokerMallocs, c.BackendMallocs, c.ClientMallocs)
	}
	t.row("")
	for _, f := range r.Load {
		f.rows(t)
	}
	t.row("\ngoal\tmeasured\t\tverdict")
	for _, g := range r.Goals {
		switch {
		case g.Figure == nil:
			t.row("  %s\tnot measured\t%s\t%s", g.Text, r.Reasons[g.Key], g.bound())
		default:
			t.row("  %s\t%.3g\t[%.3g–%.3g]\t%s", g.Text, g.Figure.Value, g.Figure.Low, g.Figure.High, g.verdict())
		}
	}
	t.row("\n%d processors, Linux %s, %s; claims of the C floor: %s", r.System.CPUs, r.System.Kernel, r.System.Go, r.System.Floor)
	return t.Flush()
}

func (g *Goal) bound() string {
	switch {
	case g.Least > 0 && g.Most > 0:
		return fmt.Sprintf("%g to %g", g.Least, g.Most)
	case g.Least > 0:
		return fmt.Sprintf("at least %g", g.Least)
	}
	return fmt.Sprintf("at most %g", g.Most)
}

func (g *Goal) verdict() string {
	if g.OK {
		return "ok: " + g.bound()
	}
	return "MISSED: " + g.bound()
}

func (f *LoadFigure) rows(t *table) {
	t.row("%d clients\thandoffs/s\tP50 µs\tP99 µs", f.Clients)
	t.row("  usher\t%.0f\t%.0f\t%.0f", f.Usher.PerSecond, f.Usher.P50, f.Usher.P99)
	if f.CFloor == nil {
		t.row("  C floor\tno C compiler")
		return
	}
	t.row("  C floor\t%.0f\t%.0f\t%.0f", f.CFloor.PerSecond, f.CFloor.P50, f.CFloor.P99)
	t.row("  ratio\t%.2f\t\t%.2f", f.Ratio.Value, f.P99Ratio.Value)
}

// Write shows the figures as text.
func (f *LoadFigure) Write(w io.Writer) error {
	t := newTable(w)
	f.rows(t)
	return t.Flush()
}

// Write shows the figures as text.
func (f TokenFigures) Write(w io.Writer) error {
	t := newTable(w)
	t.row("pending\tissue + consume, ns")
	for _, n := range []int{10, 10_000, 100_000} {
		t.row("%d\t%.0f", n, f.NS[n])
	}
	t.row("100,000 ÷ 10\t%.2f", f.Ratio)
	return t.Flush()
}

// Write shows the figure as text.
func (f *MemoryFigure) Write(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%d live handed-over connections cost the broker %+d KiB of memory and %+d descriptors\n",
		f.Connections, f.RSSDelta>>10, f.FDDelta)
	return err
}

// Write shows the figures as text.
func (f DataFigures) Write(w io.Writer) error {
	t := newTable(w)
	t.row("handed over ÷ direct")
	t.row("round trip, P50\t%.3f\t[%.3f–%.3f]", f.RTT.Value, f.RTT.Low, f.RTT.High)
	t.row("throughput, median\t%.3f\t[%.3f–%.3f]", f.Throughput.Value, f.Throughput.Low, f.Throughput.High)
	return t.Flush()
}

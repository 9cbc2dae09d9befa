package bench

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"

	"github.com/go-analyze/charts"
)

// SVG draws how the latencies of the unpinned run are distributed.
func (r *Report) SVG(w io.Writer) error { return r.draw(w, charts.ChartOutputSVG) }

// PNG draws the same.
func (r *Report) PNG(w io.Writer) error { return r.draw(w, charts.ChartOutputPNG) }

const (
	gridPoints = 120
	clip       = 0.99 // the axis ends at this percentile of the slowest series
)

// draw makes a cumulative distribution: what share of the requests had its answer
// within how many µs.
func (r *Report) draw(w io.Writer, format string) error {
	if len(r.Settings) == 0 {
		return errors.New("nothing was measured that could be drawn")
	}
	var names []string
	var sorted [][]float64
	end := 0.0
	for _, s := range r.Settings[0].Series {
		all := slices.Sorted(slices.Values(slices.Concat(s.samples...)))
		if len(all) == 0 {
			return errors.New("the samples are gone: draw in the run that measures")
		}
		names, sorted = append(names, s.Stack+": "+s.Arm), append(sorted, all)
		end = max(end, all[int(clip*float64(len(all)-1))])
	}
	labels := make([]string, gridPoints+1)
	values := make([][]float64, len(sorted))
	for i := range labels {
		x := end * float64(i) / gridPoints
		labels[i] = fmt.Sprintf("%.0f", x)
		for j, all := range sorted {
			within := sort.SearchFloat64s(all, x)
			values[j] = append(values[j], 100*float64(within)/float64(len(all)))
		}
	}
	opt := charts.NewLineChartOptionWithData(values)
	opt.Title.Text = "First answer on a new connection"
	opt.Title.Subtext = "share of the requests answered (%) within µs"
	opt.Legend.SeriesNames = names
	opt.Legend.Vertical = charts.Ptr(true)
	opt.Legend.Offset = charts.OffsetStr{Left: "50%", Top: "55%"}
	opt.XAxis.Labels = labels
	opt.XAxis.LabelCount = 9
	opt.XAxis.BoundaryGap = charts.Ptr(false)
	opt.Symbol.Shape = charts.SymbolNone
	opt.LineStrokeWidth = 2
	p := charts.NewPainter(charts.PainterOptions{OutputFormat: format, Width: 900, Height: 480})
	if err := p.LineChart(opt); err != nil {
		return err
	}
	picture, err := p.Bytes()
	if err != nil {
		return err
	}
	_, err = w.Write(picture)
	return err
}

package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"

	"github.com/go-analyze/charts"

	"github.com/seed-7265657e/usher/internal/bench"
)

// Sizes of the picture, in pixels.
const (
	width, height = 900, 790
	plotHeight    = 480

	laneLeft, laneRight = 90, 760
	laneTop             = 50
	rowHeight           = 17 // of a mark's text
)

const (
	gridPoints = 120
	clip       = 0.99 // the axis ends at this percentile of the slowest series
)

// draw draws how the latencies of the unpinned run are distributed (what share of the
// requests had its answer within how many µs), and below it one handoff.
func draw(w io.Writer, r *bench.Report, format string) error {
	if len(r.Settings) == 0 {
		return errors.New("nothing was measured that could be drawn")
	}
	var names []string
	end := 0.0
	for _, s := range r.Settings[0].Series {
		if len(s.Quantiles) < 2 {
			return fmt.Errorf("%s, %s: no quantiles to draw", s.Stack, s.Arm)
		}
		names = append(names, s.Stack+": "+s.Arm)
		end = max(end, s.Quantiles[int(clip*float64(len(s.Quantiles)-1))])
	}
	labels := make([]string, gridPoints+1)
	values := make([][]float64, len(names))
	for i := range labels {
		x := end * float64(i) / gridPoints
		labels[i] = fmt.Sprintf("%.0f", x)
		for j, s := range r.Settings[0].Series {
			within := sort.SearchFloat64s(s.Quantiles, x)
			values[j] = append(values[j], 100*float64(within)/float64(len(s.Quantiles)))
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
	opt.YAxis[0].Max, opt.YAxis[0].LabelCount = charts.Ptr(100.0), 11
	opt.Symbol.Shape = charts.SymbolNone
	opt.LineStrokeWidth = 2
	p := charts.NewPainter(charts.PainterOptions{OutputFormat: format, Width: width, Height: height})
	p.FilledRect(0, 0, width, height, charts.ColorWhite, charts.ColorWhite, 0)
	if err := p.Child(charts.PainterBoxOption(charts.NewBox(0, 0, width, plotHeight))).LineChart(opt); err != nil {
		return err
	}
	drawTimeline(p.Child(charts.PainterBoxOption(charts.NewBox(0, plotHeight, width, height))), r.Timeline)
	picture, err := p.Bytes()
	if err != nil {
		return err
	}
	_, err = w.Write(picture)
	return err
}

// drawTimeline draws a lane for each process, and in it what it does when.
func drawTimeline(p *charts.Painter, marks []bench.Mark) {
	title := charts.FontStyle{FontSize: 14, FontColor: charts.ColorBlack}
	text := charts.FontStyle{FontSize: 10, FontColor: charts.ColorBlack}
	p.Text("One handoff of median length, µs since the client began", 20, 24, 0, title)
	if len(marks) == 0 {
		return
	}
	end := marks[len(marks)-1].AtUS
	y := laneTop
	for _, lane := range lanes {
		p.Text(lane.process, 20, y+4, 0, text)
		p.LineStroke([]charts.Point{{X: laneLeft, Y: y}, {X: laneRight, Y: y}}, charts.ColorLightGray, 1)
		row := y
		for _, m := range slices.Backward(marks) { // so that no stem crosses a text
			if m.Process != lane.process {
				continue
			}
			row += rowHeight
			x := laneLeft + int(m.AtUS/end*(laneRight-laneLeft))
			p.LineStroke([]charts.Point{{X: x, Y: y}, {X: x, Y: row}}, lane.color, 1)
			p.Circle(3, x, y, lane.color, lane.color, 1)
			p.Text(fmt.Sprintf("%.0f  %s", m.AtUS, m.What), x+3, row, 0, text)
		}
		y = row + 2*rowHeight
	}
}

var lanes = []struct {
	process string
	color   charts.Color
}{{"client", charts.ColorBlue}, {"broker", charts.ColorRed}, {"backend", charts.ColorGreen}}

package demo

import (
	"fmt"
	"io"
	"strings"
)

// Colours of a terminal.
const (
	reset  = "\x1b[0m"
	bold   = "\x1b[1m"
	dim    = "\x1b[2m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
)

// Write writes r for people, with colours if wanted.
func (r *Result) Write(w io.Writer, colours bool) error {
	t := text{colours: colours}
	t.line(bold, "usher demo: a broker, its backends and their clients, each a process of its own")
	t.line("", "")
	for _, s := range r.Scenarios {
		t.scenario(s)
	}
	t.line("", "")
	t.figures(r)
	t.line("", "")
	if len(r.Timeline) > 0 {
		t.timeline(r.Timeline)
	} else {
		t.line("", "  No timeline: the clocks of the processes don't tell the steps of any one handoff from another's")
	}
	if r.dir != "" {
		t.line("", "")
		t.line("", "Definitions and logs are kept in "+r.dir)
	}
	_, err := io.WriteString(w, t.b.String())
	return err
}

// text gathers lines.
type text struct {
	colours bool
	b       strings.Builder
}

// paint puts a colour around s. An empty one leaves s as it is.
func (t *text) paint(colour, s string) string {
	if !t.colours || colour == "" {
		return s
	}
	return colour + s + reset
}

func (t *text) line(colour, s string) { t.b.WriteString(t.paint(colour, s) + "\n") }

// Widths of the columns, in characters.
const (
	nameWidth = 22
	textWidth = 60
	laneWidth = 16
	timeWidth = 7
)

func (t *text) scenario(s Scenario) {
	mark, colour := "ok    ", green
	if !s.OK {
		mark, colour = "FAILED", red
	}
	for i, part := range wrap(s.Detail, textWidth) {
		if i == 0 {
			t.line("", fmt.Sprintf("  %s  %-*s %s", t.paint(colour, mark), nameWidth, s.Name, part))
			continue
		}
		t.line("", fmt.Sprintf("  %*s  %*s %s", len(mark), "", nameWidth, "", part))
	}
}

func (t *text) figures(r *Result) {
	t.line("", fmt.Sprintf("  %d requests: %d handed over, %d reconnected, %s",
		r.Requests, r.HandedOver, r.Reconnected, t.paint(yellow, fmt.Sprintf("%d of unknown outcome", r.Unknown))))
	t.line("", fmt.Sprintf("  %s, %s, %s",
		t.zero(r.ExecutedTwice, "run twice"), t.zero(r.Lost, "lost"), t.zero(r.FDsLeaked, "descriptors leaked")))
}

// zero shows a figure that must be 0.
func (t *text) zero(n int, what string) string {
	colour := green
	if n != 0 {
		colour = red
	}
	return t.paint(colour, fmt.Sprintf("%d %s", n, what))
}

// timeline draws one lane per process.
func (t *text) timeline(steps []Step) {
	t.line(bold, "  One handoff, in µs")
	t.line("", "")
	lanes := []string{whoClient, whoBroker, whoBackend}
	head := strings.Repeat(" ", timeWidth+3)
	for _, lane := range lanes {
		head += fmt.Sprintf("%-*s", laneWidth, lane)
	}
	t.line(dim, strings.TrimRight(head, " "))
	for _, s := range steps {
		row := fmt.Sprintf("%*d   ", timeWidth, s.AtUS)
		for _, lane := range lanes {
			if lane == s.Who {
				row += t.paint(green, "●") + fmt.Sprintf(" %-*s", laneWidth-2, s.Step)
			} else {
				row += t.paint(dim, "│") + strings.Repeat(" ", laneWidth-1)
			}
		}
		t.line("", strings.TrimRight(row, " "))
	}
	t.line("", "")
	t.line(dim, "  A connection of median length. Each process read the wall clock of this machine, to the µs, so")
	t.line(dim, "  their steps can be compared; a step is noted when it is over.")
}

// wrap breaks s at spaces into lines of at most width characters; a longer word
// gets a line of its own.
func wrap(s string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(s) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}

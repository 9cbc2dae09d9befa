package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-7265657e/usher/examples/notes/notes"
	"github.com/seed-7265657e/usher/internal/world"
)

// stepTimeout bounds every wait for a process to say something.
const stepTimeout = 30 * time.Second

// event is one line that a process of the demo says: what has happened to it, or
// the answer to a question.
type event struct {
	Executed string        `json:"executed,omitempty"` // id of a request that has run
	Freezing bool          `json:"freezing,omitempty"` // it stands still, and is to be frozen
	Report   *notes.Report `json:"report,omitempty"`
	Handoffs []steps       `json:"handoffs,omitempty"` // with the report, when asked for
	Result   *tally        `json:"result,omitempty"`
}

// question is what a backend is asked.
type question struct {
	Handoffs bool `json:"handoffs"` // say them too
	GoOn     bool `json:"go_on"`    // from where it stands still
}

// await reads what a process says, until a line fits.
func (s *stage) await(ctx context.Context, p *world.Process, what string, fits func(*event) bool) (*event, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	for {
		var e event
		if err := p.Line(ctx, &e); err != nil {
			return nil, fmt.Errorf("waiting for %s: %w", what, err)
		}
		s.note(&e)
		if fits(&e) {
			return &e, nil
		}
	}
}

func (s *stage) note(e *event) {
	if e.Executed != "" {
		s.executed[e.Executed]++
	}
}

// report asks a backend for its counters.
func (s *stage) report(ctx context.Context, p *world.Process, q question) (*event, error) {
	if err := p.Tell(q); err != nil {
		return nil, err
	}
	return s.await(ctx, p, "its report", func(e *event) bool { return e.Report != nil })
}

// over waits for the end of a process and notes all that it has said.
func (s *stage) over(ctx context.Context, p *world.Process) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	_ = p.Wait(ctx) // how it ended is for Quit to judge
	for e := (event{}); p.Line(ctx, &e) == nil; e = (event{}) {
		s.note(&e)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s has not ended: %w", p.Name, err)
	}
	return nil
}

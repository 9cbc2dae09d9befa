package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-7265657e/usher/internal/wait"
	"github.com/seed-7265657e/usher/internal/world"
)

// usage is what a process holds.
type usage struct {
	world.Held
	goroutines int
}

func (u usage) least(other usage) usage {
	return usage{u.Least(other.Held), min(u.goroutines, other.goroutines)}
}

// baseline is what a process held when nothing was under way.
type baseline struct {
	p *world.Process
	usage
}

const (
	settleInterval = 5 * time.Millisecond
	// quietReadings in a row without a lower one end the search for a baseline.
	quietReadings = 10
	// settleTimeout is how long a process may take to let go of what it used.
	settleTimeout = 10 * time.Second
)

// takeBaselines measures processes: what they hold more at the end is a leak.
func (s *stage) takeBaselines(ctx context.Context, of ...*world.Process) error {
	for _, p := range of {
		base, err := s.baselineOf(ctx, p)
		if err != nil {
			return err
		}
		s.baselines = append(s.baselines, base)
	}
	return nil
}

// baselineOf measures p until the figures fall no more: the least it needs.
func (s *stage) baselineOf(ctx context.Context, p *world.Process) (baseline, error) {
	least, err := s.usage(ctx, p)
	for quiet := 0; err == nil && quiet < quietReadings; quiet++ {
		if !wait.For(ctx, settleInterval) {
			return baseline{}, ctx.Err()
		}
		before := least
		var now usage
		now, err = s.usage(ctx, p)
		if least = least.least(now); least != before {
			quiet = 0
		}
	}
	return baseline{p, least}, err
}

// settled waits until the process holds no more than at its baseline. The
// descriptors by which it stays above are leaked.
func (s *stage) settled(ctx context.Context, base baseline) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	var now usage
	err := world.Until(ctx, base.p.Name+" holds no more than before", func() (holds bool, err error) {
		now, err = s.usage(ctx, base.p)
		return now.Beyond(base.Held) == 0 && now.goroutines <= base.goroutines, err
	})
	if err != nil {
		leaked := now.Beyond(base.Held)
		s.fdsLeaked += leaked
		return fmt.Errorf("%w: %d descriptors more than the %d at first, and %d goroutines, %d at first", err, leaked, base.Descriptors, now.goroutines, base.goroutines)
	}
	return nil
}

// usage counts the descriptors from outside; how many goroutines it has, a backend
// tells.
func (s *stage) usage(ctx context.Context, p *world.Process) (u usage, err error) {
	if u.Held, err = world.Holds(p.PID()); err != nil || p == s.broker {
		return u, err
	}
	e, err := s.report(ctx, p, question{})
	if err != nil {
		return u, err
	}
	u.goroutines = e.Report.Goroutines
	return u, nil
}

// settleBroker judges the broker, whose end is near, and returns how many descriptors it
// holds at most when it has nothing to do.
func (s *stage) settleBroker(ctx context.Context) (held world.Held, err error) {
	last := len(s.baselines) - 1
	base := s.baselines[last]
	s.baselines = s.baselines[:last]
	return base.Held, s.settled(ctx, base)
}

// noLeaks judges every process that lives to the end. Those that did not have
// been judged before: the brokers, and the backend that was frozen.
func (s *stage) noLeaks(ctx context.Context) (string, error) {
	var errs []error
	detail := ""
	for _, base := range s.baselines {
		errs = append(errs, s.settled(ctx, base))
		detail += fmt.Sprintf("%s %d, ", base.p.Name, base.Descriptors)
	}
	return detail + "as at the beginning; the brokers and the thawed backend too", errors.Join(errs...)
}

package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-7265657e/usher/internal/wait"
)

// usage is what a process holds.
type usage struct{ fds, goroutines int }

// baseline is what a process held when nothing was under way.
type baseline struct {
	p *process
	usage
}

const (
	settleInterval = 5 * time.Millisecond
	// quietReadings in a row without a lower one end the search for a baseline.
	quietReadings = 10
	// settleTimeout is how long a process may take to let go of what it used.
	settleTimeout = 10 * time.Second
)

// takeBaselines measures the broker and the standing backends.
func (s *stage) takeBaselines(ctx context.Context) error {
	for _, p := range s.standing {
		base, err := s.baselineOf(ctx, p)
		if err != nil {
			return err
		}
		s.baselines = append(s.baselines, base)
	}
	return s.takeBaselineOfBroker(ctx)
}

func (s *stage) takeBaselineOfBroker(ctx context.Context) error {
	base, err := s.baselineOf(ctx, s.broker)
	if err != nil {
		return err
	}
	s.baselines = append(s.baselines, base)
	return nil
}

// baselineOf measures p until the figures fall no more: the least it needs.
func (s *stage) baselineOf(ctx context.Context, p *process) (baseline, error) {
	least, err := s.usage(ctx, p)
	for quiet := 0; err == nil && quiet < quietReadings; quiet++ {
		if !wait.For(ctx, settleInterval) {
			return baseline{}, ctx.Err()
		}
		var now usage
		if now, err = s.usage(ctx, p); now.fds < least.fds || now.goroutines < least.goroutines {
			quiet = 0
		}
		least = usage{min(least.fds, now.fds), min(least.goroutines, now.goroutines)}
	}
	return baseline{p, least}, err
}

// settled waits until the process holds no more than at its baseline, and
// returns by how many descriptors it stays above.
func (s *stage) settled(ctx context.Context, base baseline) (fds int, err error) {
	for deadline := time.Now().Add(settleTimeout); ; {
		now, err := s.usage(ctx, base.p)
		if err != nil {
			return 0, err
		}
		if now.fds <= base.fds && now.goroutines <= base.goroutines {
			return 0, nil
		}
		if time.Now().After(deadline) {
			return max(now.fds-base.fds, 0), check(now.goroutines <= base.goroutines,
				"%s has %d goroutines, %d before", base.p.Name, now.goroutines, base.goroutines)
		}
		if !wait.For(ctx, settleInterval) {
			return 0, ctx.Err()
		}
	}
}

// usage counts the descriptors from outside; how many goroutines it has, a backend
// tells.
func (s *stage) usage(ctx context.Context, p *process) (u usage, err error) {
	if u.fds, err = p.Descriptors(); err != nil || p == s.broker {
		return u, err
	}
	e, err := p.report(ctx, question{})
	if err != nil {
		return u, err
	}
	u.goroutines = e.Report.Goroutines
	return u, nil
}

// settleBroker judges the first broker, whose end is near.
func (s *stage) settleBroker(ctx context.Context) error {
	last := len(s.baselines) - 1
	base := s.baselines[last]
	s.baselines = s.baselines[:last]
	leak, err := s.settled(ctx, base)
	s.fdsLeaked += leak
	return errors.Join(err, check(leak == 0, "%s holds %d descriptors more than at its baseline of %d", base.p.Name, leak, base.fds))
}

// noLeaks judges every process that lives to the end. Those that did not have
// been judged before: the first broker, and the backend that was frozen.
func (s *stage) noLeaks(ctx context.Context) (string, error) {
	var errs []error
	detail := ""
	for _, base := range s.baselines {
		leak, err := s.settled(ctx, base)
		s.fdsLeaked += leak
		errs = append(errs, err, check(leak == 0, "%s holds %d descriptors more than at its baseline of %d", base.p.Name, leak, base.fds))
		detail += fmt.Sprintf("%s %d, ", base.p.Name, base.fds)
	}
	return detail + "as at the beginning; the first broker and the thawed backend too", errors.Join(errs...)
}

package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/seed-7265657e/usher/examples/notes/notes"
)

// handedOver sends every request on a fresh connection.
func (s *stage) handedOver(ctx context.Context) (string, error) {
	t, counted, err := s.sendCounted(ctx, errands{Requests: s.opts.Requests, Prefix: "handed-over"})
	if err != nil {
		return "", err
	}
	if s.drawn, err = s.timeline(ctx, t.Trips); err != nil {
		return "", err
	}
	err = errors.Join(t.allAnswered(),
		check(t.HandedOver == t.Requests, "%d of %d handed over", t.HandedOver, t.Requests),
		counted.agrees(t))
	return fmt.Sprintf("%d requests on %d fresh connections, all handed over; the backends counted %d, each request run once",
		t.Requests, t.Connections, counted.handedOver), err
}

// reconnect lets the client ask the broker only where the backend is.
func (s *stage) reconnect(ctx context.Context) (string, error) {
	t, counted, err := s.sendCounted(ctx, errands{Requests: max(s.opts.Requests/4, 1), Prefix: "reconnect", NoHandoff: true})
	if err != nil {
		return "", err
	}
	err = errors.Join(t.allAnswered(),
		check(t.Reconnected == t.Requests, "%d of %d reconnected", t.Reconnected, t.Requests),
		counted.agrees(t))
	return fmt.Sprintf("%d requests, each told where to connect; the backends counted %d dialled", t.Requests, counted.dialled), err
}

// keptRequests is how many requests share a connection in keepAlive.
const keptRequests = 10

// keepAlive sends many requests on one handed-over connection.
func (s *stage) keepAlive(ctx context.Context) (string, error) {
	t, counted, err := s.sendCounted(ctx, errands{Requests: keptRequests, Prefix: "keep-alive", Session: true})
	if err != nil {
		return "", err
	}
	err = errors.Join(t.allAnswered(),
		check(t.Connections == 1 && t.HandedOver == t.Requests, "%d connections, %d of %d requests handed over", t.Connections, t.HandedOver, t.Requests),
		counted.agrees(t))
	return fmt.Sprintf("%d requests on one handed-over connection", t.Requests), err
}

// allAnswered says what keeps t from being a plain success.
func (t *tally) allAnswered() error {
	return check(t.answered() == t.Requests && t.Wrong == 0, "%d of %d requests answered, %d wrong: %s",
		t.answered(), t.Requests, t.Wrong, strings.Join(t.Faults, "; "))
}

// reports asks the standing backends.
func (s *stage) reports(ctx context.Context) ([]*notes.Report, error) {
	reports := make([]*notes.Report, len(s.standing))
	for i, p := range s.standing {
		e, err := s.report(ctx, p, question{})
		if err != nil {
			return nil, err
		}
		reports[i] = e.Report
	}
	return reports, nil
}

// counters is what the standing backends counted over one errand.
type counters struct {
	handedOver, dialled int // connections
	ids, executions     int // requests by their ids, and how often they ran
}

// sendCounted is send, with what the standing backends counted meanwhile.
func (s *stage) sendCounted(ctx context.Context, e errands) (t *tally, c counters, err error) {
	before, err := s.reports(ctx)
	if err != nil {
		return nil, c, err
	}
	t = s.send(ctx, e)
	after, err := s.reports(ctx)
	if err != nil {
		return nil, c, err
	}
	ids := make(map[string]struct{})
	for i := range after {
		c.handedOver += after[i].HandedOver - before[i].HandedOver
		c.dialled += after[i].Dialled - before[i].Dialled
		for id, times := range after[i].Executions {
			if strings.HasPrefix(id, e.Prefix+"-") {
				ids[id] = struct{}{}
				c.executions += times
			}
		}
	}
	c.ids = len(ids)
	return t, c, nil
}

// agrees compares what the backends counted with what the client did.
func (c counters) agrees(t *tally) error {
	handedOver, dialled := t.Connections, 0
	if t.Reconnected > 0 {
		handedOver, dialled = 0, t.Connections
	}
	return errors.Join(
		check(c.handedOver == handedOver && c.dialled == dialled,
			"the backends counted %d connections handed over and %d dialled, the client %d and %d", c.handedOver, c.dialled, handedOver, dialled),
		check(c.ids == t.Requests && c.executions == t.Requests,
			"the backends ran %d of %d requests, %d times in all", c.ids, t.Requests, c.executions))
}

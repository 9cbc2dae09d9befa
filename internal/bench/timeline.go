package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/world"
)

// Mark is a moment in one handoff's life.
type Mark struct {
	Process string  `json:"process"` // client, broker or backend
	What    string  `json:"what"`
	AtUS    float64 `json:"at_us"` // since the client began
}

const (
	clientLane  = "client"
	brokerLane  = "broker"
	backendLane = "backend"
)

// passed is a point of a connection's life that a process has passed.
type passed struct {
	Point failpoint.Point `json:"point"`
	At    int64           `json:"at"` // Unix time, ns: the clock that processes share
}

// pointNames are the points as a reader of the timeline knows them.
var pointNames = map[failpoint.Point]Mark{
	failpoint.BrokerIssued:    {Process: brokerLane, What: "hello read, claim made"},
	failpoint.BrokerSent:      {Process: brokerLane, What: "offer sent"},
	failpoint.BackendReceived: {Process: backendLane, What: "offer received"},
	failpoint.BackendChecked:  {Process: backendLane, What: "checked"},
	failpoint.BackendClaimed:  {Process: backendLane, What: "claimed"},
	failpoint.BackendAcked:    {Process: backendLane, What: "acknowledged"}, // in the page
	failpoint.BackendReplied:  {Process: backendLane, What: "answered"},
}

// recorder notes the points that this process passes, from the first question on.
type recorder struct {
	mu     sync.Mutex
	points []passed
}

// maxPoints bounds what one process notes.
const maxPoints = 1 << 16

func (r *recorder) record(p failpoint.Point) {
	now := time.Now().UnixNano()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.points) < maxPoints {
		r.points = append(r.points, passed{p, now})
	}
}

// begin records from now on, and returns what has been recorded.
func (r *recorder) begin() []passed {
	r.mu.Lock()
	defer r.mu.Unlock()
	points := r.points
	r.points = nil
	failpoint.Set(r.record)
	return points
}

// timelineRounds is out of how many handoffs the one of median length is shown.
const timelineRounds = 201

// timeline shows one handoff, of median length, as its three processes saw it.
func (s *site) timeline(ctx context.Context) (marks []Mark, err error) {
	w, err := s.raise(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.end()) }()
	var got result
	r := rounds{Targets: []target{w.inline}, Arms: []string{handedOver}, Warm: 100, Pairs: timelineRounds, Stamp: true}
	var said usage
	for _, p := range []*world.Process{w.inlineBroker, w.inlineBack} {
		if err := p.Ask(ctx, question{Record: true}, &said); err != nil {
			return nil, err
		}
	}
	if err := w.client.Ask(ctx, order{Rounds: &r}, &got); err != nil {
		return nil, err
	}
	var points []passed
	for _, p := range []*world.Process{w.inlineBroker, w.inlineBack} {
		said = usage{}
		if err := p.Ask(ctx, question{Record: true}, &said); err != nil {
			return nil, err
		}
		points = append(points, said.Passed...)
	}
	took := got.Samples[0][0]
	median := slices.Sorted(slices.Values(took))[len(took)/2]
	return assemble(got.Began[slices.Index(took, median)], median, points)
}

// follows says after which point another can come at the earliest. What a process
// says of itself after a system call may come later than what the call set off.
var follows = []struct{ point, after failpoint.Point }{
	{failpoint.BrokerIssued, ""},
	{failpoint.BrokerSent, failpoint.BrokerIssued},
	{failpoint.BackendReceived, failpoint.BrokerIssued},
	{failpoint.BackendChecked, failpoint.BackendReceived},
	{failpoint.BackendClaimed, failpoint.BackendChecked},
	{failpoint.BackendAcked, failpoint.BackendClaimed},
	{failpoint.BackendReplied, failpoint.BackendAcked},
}

// assemble picks the points of the handoff that began at began, in Unix ns, and took
// that many µs. Every point must be there.
func assemble(began int64, took float64, points []passed) ([]Mark, error) {
	at := map[failpoint.Point]int64{"": began}
	slices.SortFunc(points, func(a, b passed) int { return cmp.Compare(a.At, b.At) })
	marks := []Mark{{clientLane, "began", 0}, {clientLane, "answer read", took}}
	for _, f := range follows {
		i := slices.IndexFunc(points, func(p passed) bool { return p.Point == f.point && p.At >= at[f.after] })
		if i < 0 {
			return nil, fmt.Errorf("no handoff was recorded whole: %s is missing", f.point)
		}
		at[f.point] = points[i].At
		m := pointNames[f.point]
		m.AtUS = float64(points[i].At-began) / 1e3
		marks = append(marks, m)
	}
	slices.SortStableFunc(marks, func(a, b Mark) int { return cmp.Compare(a.AtUS, b.AtUS) })
	return marks, nil
}

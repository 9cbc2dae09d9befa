package bench

import (
	"slices"
	"testing"

	"github.com/seed-7265657e/usher/internal/failpoint"
)

// TestAssemble: of points of three handoffs, those of the one in the middle are
// found, also where a process speaks up later than what it set off.
func TestAssemble(t *testing.T) {
	order := []failpoint.Point{
		failpoint.BrokerIssued, failpoint.BackendReceived, failpoint.BrokerSent, failpoint.BackendChecked,
		failpoint.BackendClaimed, failpoint.BackendAcked, failpoint.BackendReplied,
	}
	const apart = 1_000_000 // ns between two handoffs
	var points []passed
	for n := range int64(3) {
		for i, p := range order {
			points = append(points, passed{p, n*apart + int64(i+1)*10_000})
		}
	}
	// The first one's answer is out when the second has begun.
	late := slices.IndexFunc(points, func(p passed) bool { return p.Point == failpoint.BackendReplied })
	points[late].At = apart + 5_000
	slices.Reverse(points)
	marks, err := assemble(apart, 95, points)
	if err != nil {
		t.Fatal(err)
	}
	want := []Mark{{clientLane, "began", 0}}
	for i, p := range order {
		m := pointNames[p]
		m.AtUS = float64(i+1) * 10
		want = append(want, m)
	}
	want = append(want, Mark{clientLane, "answer read", 95})
	if !slices.Equal(marks, want) {
		t.Errorf("got %v, want %v", marks, want)
	}
	if _, err := assemble(3*apart, 95, points); err == nil {
		t.Error("a handoff that nobody recorded is shown")
	}
}

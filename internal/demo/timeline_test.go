package demo

import (
	"cmp"
	"slices"
	"testing"
)

// TestWithin: a record counts only when it is alone in the client's wait.
func TestWithin(t *testing.T) {
	records := []steps{{"seen": 10}, {"seen": 20}, {"seen": 21}, {"seen": 40}}
	for _, tc := range []struct {
		dial, ready, want int64 // want 0: none
	}{
		{5, 15, 10}, {10, 10, 10}, {11, 19, 0}, {15, 30, 0}, {21, 39, 21}, {30, 99, 40}, {41, 99, 0},
	} {
		got := within(records, "seen", trip{Dial: tc.dial, Ready: tc.ready})["seen"]
		if got != tc.want {
			t.Errorf("[%d, %d]: %d, want %d", tc.dial, tc.ready, got, tc.want)
		}
	}
}

func TestLine(t *testing.T) {
	h := handoff{
		trip:    trip{Dial: 100, Ready: 160, Sent: 170, Answered: 200},
		broker:  steps{"accept": 110, "hello": 120, "resolve": 120, "issue": 121, "send": 140, "acknowledge": 165},
		backend: steps{"received": 135, "checked": 140, "claimed": 141, "replied": 150, "acked": 155},
	}
	line := h.line()
	if !slices.IsSortedFunc(line, func(a, b Step) int { return cmp.Compare(a.AtUS, b.AtUS) }) {
		t.Errorf("not in the order of time: %v", line)
	}
	if first, last := line[0], line[len(line)-1]; first != (Step{whoClient, "dial", 0}) || last != (Step{whoClient, "answer", 100}) {
		t.Errorf("from %v to %v", first, last)
	}
	// The same µs: in the order in which it must have been.
	if hello, resolve := line[2], line[3]; hello.Step != "hello" || resolve.Step != "resolve" {
		t.Errorf("%v before %v", hello, resolve)
	}
}

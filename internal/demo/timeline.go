package demo

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"os"
	"slices"
)

// Who takes a step.
const (
	whoClient  = "client"
	whoBroker  = "broker"
	whoBackend = "backend"
)

// Step is one step of one handoff.
type Step struct {
	Who  string `json:"who"`
	Step string `json:"step"`
	AtUS int64  `json:"at_us"` // µs since the client's dial, by the machine's wall clock
}

// brokerSteps are the steps of a handoff in the broker's log. They come before
// what the backend does, but for the last.
var brokerSteps = []string{"accept", "hello", "resolve", "issue", "send", "acknowledge"}

// handoff is one handed-over connection, as its three processes saw it.
type handoff struct {
	trip
	broker  map[string]int64 // Unix µs by step
	backend adoption
}

// took is how long the client waited for its connection, in µs.
func (h handoff) took() int64 { return h.Ready - h.Dial }

// timeline lays the logs of client, broker and backends side by side and returns
// the steps of a median connection: the first ones find everything cold.
//
// The client does one request at a time, so what broker and backend logged
// between its dial and its connection's readiness belongs to that connection.
func (s *stage) timeline(ctx context.Context, trips []trip) ([]Step, error) {
	var adoptions []adoption
	for _, p := range s.standing {
		e, err := p.report(ctx, question{Handoffs: true})
		if err != nil {
			return nil, err
		}
		adoptions = append(adoptions, e.Handoffs...)
	}
	slices.SortFunc(adoptions, func(a, b adoption) int { return cmp.Compare(a.Received, b.Received) })
	done, err := s.connections()
	if err != nil {
		return nil, err
	}
	var whole []handoff
	for _, t := range trips {
		broker, backend := within(done, beganAt, t), within(adoptions, receivedAt, t)
		if broker != nil && backend != nil && complete(*broker) && backend.Acked > 0 && t.Sent > 0 && t.Answered > 0 {
			whole = append(whole, handoff{t, *broker, *backend})
		}
	}
	if len(whole) == 0 {
		return nil, nil
	}
	slices.SortFunc(whole, func(a, b handoff) int { return cmp.Compare(a.took(), b.took()) })
	return whole[len(whole)/2].line(), nil
}

// connections returns the steps of every connection so far, in Unix µs, the earliest
// first. No verb tells them: this is the one place that reads a broker's log, and
// there the field "steps", whatever the message.
func (s *stage) connections() (all []map[string]int64, err error) {
	log, err := os.Open(s.Path(s.broker.Name + ".log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var l struct {
			Steps map[string]int64 `json:"steps"`
		}
		if json.Unmarshal(lines.Bytes(), &l) != nil || l.Steps == nil {
			continue
		}
		at := make(map[string]int64)
		for _, step := range brokerSteps {
			if us, ok := l.Steps[step+"_us"]; ok {
				at[step] = l.Steps["began_unix_us"] + us
			}
		}
		all = append(all, at)
	}
	slices.SortFunc(all, func(a, b map[string]int64) int { return cmp.Compare(beganAt(a), beganAt(b)) })
	return all, lines.Err()
}

func beganAt(steps map[string]int64) int64 { return steps["accept"] }

func receivedAt(a adoption) int64 { return a.Received }

func complete(steps map[string]int64) bool { return len(steps) == len(brokerSteps) }

// within returns the only one of the sorted records whose time is within t's
// wait for its connection; nil when there is none, or more than one.
func within[R any](sorted []R, at func(R) int64, t trip) *R {
	first, _ := slices.BinarySearchFunc(sorted, t.Dial, func(r R, dial int64) int { return cmp.Compare(at(r), dial) })
	if first == len(sorted) || at(sorted[first]) > t.Ready {
		return nil
	}
	if next := first + 1; next < len(sorted) && at(sorted[next]) <= t.Ready {
		return nil
	}
	return &sorted[first]
}

// line puts the steps in the order in which they happened; where the clock can't
// tell, in the order in which they must have.
func (h handoff) line() []Step {
	last := len(brokerSteps) - 1
	steps := []Step{{whoClient, "dial", h.Dial}}
	for _, name := range brokerSteps[:last] {
		steps = append(steps, Step{whoBroker, name, h.broker[name]})
	}
	steps = append(steps,
		Step{whoBackend, "received", h.backend.Received},
		Step{whoBackend, "checked", h.backend.Checked},
		Step{whoBackend, "claimed", h.backend.Claimed},
		Step{whoBackend, "acked", h.backend.Acked},
		Step{whoBackend, "replied", h.backend.Replied},
		Step{whoClient, "ready", h.Ready},
		Step{whoClient, "request", h.Sent},
		Step{whoBroker, brokerSteps[last], h.broker[brokerSteps[last]]},
		Step{whoClient, "answer", h.Answered},
	)
	for i := range steps {
		steps[i].AtUS -= h.Dial
	}
	slices.SortStableFunc(steps, func(a, b Step) int { return cmp.Compare(a.AtUS, b.AtUS) })
	return steps
}

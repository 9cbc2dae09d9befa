package demo

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"os"
	"slices"

	brokerevent "github.com/seed-7265657e/usher/internal/event"
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

// backendSteps are those of one that the backend adopts.
var backendSteps = []string{"received", "checked", "claimed", "acked", "replied"}

// steps are when one process passed which steps of one handoff, in Unix µs.
type steps map[string]int64

// handoff is one handed-over connection, as its three processes saw it.
type handoff struct {
	trip
	broker, backend steps
}

// took is how long the client waited for its connection, in µs.
func (h handoff) took() int64 { return h.Ready - h.Dial }

// timeline lays what client, broker and backends noted side by side and returns
// the steps of a median connection: the first ones find everything cold.
//
// The client does one request at a time, so what broker and backend noted
// between its dial and its connection's readiness belongs to that connection.
func (s *stage) timeline(ctx context.Context, trips []trip) ([]Step, error) {
	var adoptions []steps
	for _, p := range s.standing {
		e, err := s.report(ctx, p, question{Handoffs: true})
		if err != nil {
			return nil, err
		}
		adoptions = append(adoptions, e.Handoffs...)
	}
	done, err := s.connections()
	if err != nil {
		return nil, err
	}
	sortBy(done, "accept")
	sortBy(adoptions, "received")
	var whole []handoff
	for _, t := range trips {
		broker, backend := within(done, "accept", t), within(adoptions, "received", t)
		if complete(broker, brokerSteps) && complete(backend, backendSteps) && t.Sent > 0 && t.Answered > 0 {
			whole = append(whole, handoff{t, broker, backend})
		}
	}
	if len(whole) == 0 {
		return nil, nil
	}
	slices.SortFunc(whole, func(a, b handoff) int { return cmp.Compare(a.took(), b.took()) })
	return whole[len(whole)/2].line(), nil
}

// connections returns the steps of every connection so far. No verb tells them: this
// is the one place that reads a broker's log, and of that the event of a connection's
// end.
func (s *stage) connections() (all []steps, err error) {
	log, err := os.Open(s.Path(s.broker.Name + ".log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var l struct {
			Event string `json:"event"`
			Steps steps  `json:"steps"`
		}
		if json.Unmarshal(lines.Bytes(), &l) != nil || l.Event != (brokerevent.Done{}).Name() {
			continue
		}
		at := steps{}
		for _, step := range brokerSteps {
			if us, ok := l.Steps[step+"_us"]; ok {
				at[step] = l.Steps["began_unix_us"] + us
			}
		}
		all = append(all, at)
	}
	return all, lines.Err()
}

func complete(s steps, names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return s[name] == 0 })
}

// within returns the only one of all whose step was within t's wait for its
// connection; nil when there is none, or more than one. All are sorted by that step.
func within(all []steps, step string, t trip) steps {
	i, _ := slices.BinarySearchFunc(all, t.Dial, func(s steps, dial int64) int { return cmp.Compare(s[step], dial) })
	if i == len(all) || all[i][step] > t.Ready || i+1 < len(all) && all[i+1][step] <= t.Ready {
		return nil
	}
	return all[i]
}

func sortBy(all []steps, step string) {
	slices.SortFunc(all, func(a, b steps) int { return cmp.Compare(a[step], b[step]) })
}

// line puts the steps in the order in which they happened; where the clock can't
// tell, in the order in which they must have.
func (h handoff) line() []Step {
	last := len(brokerSteps) - 1
	line := []Step{{whoClient, "dial", h.Dial}}
	for _, name := range brokerSteps[:last] {
		line = append(line, Step{whoBroker, name, h.broker[name]})
	}
	for _, name := range backendSteps {
		line = append(line, Step{whoBackend, name, h.backend[name]})
	}
	line = append(line,
		Step{whoClient, "ready", h.Ready},
		Step{whoClient, "request", h.Sent},
		Step{whoBroker, brokerSteps[last], h.broker[brokerSteps[last]]},
		Step{whoClient, "answer", h.Answered},
	)
	for i := range line {
		line[i].AtUS -= h.Dial
	}
	slices.SortStableFunc(line, func(a, b Step) int { return cmp.Compare(a.AtUS, b.AtUS) })
	return line
}

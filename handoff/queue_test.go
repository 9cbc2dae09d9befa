package handoff_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/testutil"
	"pgregory.net/rapid"
)

type queueVectors struct {
	PendingQueue struct {
		Defaults struct {
			Max int `json:"max"`
			TTL int `json:"ttl_ms"`
		} `json:"defaults"`
		Clamps    []clampVector `json:"clamps"`
		Scenarios []struct {
			Name  string `json:"name"`
			Max   int    `json:"max"`
			TTL   int    `json:"ttl_ms"`
			Steps []struct {
				Op     string `json:"op"`
				At     int    `json:"at"`
				Item   string `json:"item"`
				Expect any    `json:"expect"`
			} `json:"steps"`
		} `json:"scenarios"`
	} `json:"pending_queue"`
}

func readQueueVectors(t *testing.T) queueVectors {
	t.Helper()
	var v queueVectors
	testutil.Vectors(t, "behaviour.json", &v)
	if len(v.PendingQueue.Scenarios) == 0 {
		t.Fatal("no scenarios")
	}
	return v
}

func enqueueName(err error) string {
	var overflow *handoff.OverflowError
	if errors.As(err, &overflow) {
		return fmt.Sprintf("overflow(%d) -> %s", overflow.Max, overflow.Reason())
	}
	return "ok"
}

func TestQueueVectors(t *testing.T) {
	for _, scenario := range readQueueVectors(t).PendingQueue.Scenarios {
		t.Run(scenario.Name, func(t *testing.T) {
			queue := handoff.NewQueue(handoff.QueueConfig{Max: scenario.Max, TTL: millis(scenario.TTL)}, func(string) {})
			for i, step := range scenario.Steps {
				var got any
				switch step.Op {
				case "enqueue":
					got = enqueueName(queue.Enqueue(step.Item, at(step.At)))
				case "dequeue":
					if item, ok := queue.Dequeue(at(step.At)); ok {
						got = item
					}
				default:
					t.Fatalf("unknown operation %q", step.Op)
				}
				if got != step.Expect {
					t.Errorf("step %d, %s at %d: got %v, want %v", i, step.Op, step.At, got, step.Expect)
				}
			}
		})
	}
}

func TestQueueDefaultsAndClamps(t *testing.T) {
	v := readQueueVectors(t).PendingQueue
	got := handoff.DefaultQueueConfig()
	if got.Max != v.Defaults.Max || got.TTL != millis(v.Defaults.TTL) {
		t.Errorf("got %+v, want %+v", got, v.Defaults)
	}
	for _, clamp := range v.Clamps {
		config := handoff.DefaultQueueConfig()
		switch clamp.Field {
		case "max":
			config.Max = clamp.Given
		case "ttl_ms":
			config.TTL = millis(clamp.Given)
		default:
			t.Fatalf("unknown field %q", clamp.Field)
		}
		queue := handoff.NewQueue(config, func(int) {})
		if err := queue.Enqueue(0, at(0)); err != nil {
			t.Fatal(err)
		}
		switch clamp.Field {
		case "max":
			var overflow *handoff.OverflowError
			if err := queue.Enqueue(1, at(0)); !errors.As(err, &overflow) || overflow.Max != clamp.Used {
				t.Errorf("got %v, want a limit of %d", err, clamp.Used)
			}
		case "ttl_ms":
			end := at(clamp.Used)
			if early, due := queue.Prune(end.Add(-1)), queue.Prune(end); early != 0 || due != 1 {
				t.Errorf("%d expired early, %d at %d ms", early, due, clamp.Used)
			}
		}
	}
}

// TestQueueMatchesModel checks order, bound and ownership: each item ends with
// the one who dequeued it or with the expired function, once.
func TestQueueMatchesModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		config := handoff.QueueConfig{
			Max: rapid.IntRange(1, 20).Draw(rt, "max"),
			TTL: millis(rapid.IntRange(1, 30).Draw(rt, "ttl")),
		}
		var expired, wantExpired []int
		var queue *handoff.Queue[int]
		queue = handoff.NewQueue(config, func(item int) {
			queue.Len() // no lock is held here
			expired = append(expired, item)
		})
		type entry struct{ item, at int }
		var model []entry
		now, next := 1000, 0
		tick := func(rt *rapid.T) int {
			now += rapid.IntRange(0, 5).Draw(rt, "tick")
			for len(model) > 0 && millis(now-model[0].at) >= config.TTL {
				wantExpired = append(wantExpired, model[0].item)
				model = model[1:]
			}
			return now
		}
		rt.Repeat(map[string]func(*rapid.T){
			"enqueue": func(rt *rapid.T) {
				when := tick(rt)
				err := queue.Enqueue(next, at(when))
				if full := len(model) == config.Max; full != (err != nil) {
					rt.Fatalf("got %v with %d of %d", err, len(model), config.Max)
				}
				if err == nil {
					model = append(model, entry{next, when})
				}
				next++
			},
			"dequeue": func(rt *rapid.T) {
				item, ok := queue.Dequeue(at(tick(rt)))
				if ok != (len(model) > 0) || ok && item != model[0].item {
					rt.Fatalf("got %d, %v; want %v", item, ok, model)
				}
				if ok {
					model = model[1:]
				}
			},
			"prune": func(rt *rapid.T) {
				when := at(tick(rt))
				want := len(wantExpired) - len(expired)
				if got := queue.Prune(when); got != want {
					rt.Fatalf("dropped %d, want %d", got, want)
				}
			},
			"": func(rt *rapid.T) {
				want := len(model) + len(wantExpired) - len(expired)
				if got := queue.Len(); got != want {
					rt.Fatalf("holds %d, want %d", got, want)
				}
			},
		})
		queue.Prune(at(now))
		if !slices.Equal(expired, wantExpired) {
			rt.Fatalf("expired %v, want %v", expired, wantExpired)
		}
	})
}

// TestQueueClockSkew: an item whose caller read the clock before the one ahead of
// it expires no earlier than that one, so the first in is the first out.
func TestQueueClockSkew(t *testing.T) {
	queue := handoff.NewQueue(handoff.QueueConfig{Max: 2, TTL: millis(100)}, func(string) {})
	for _, item := range []struct {
		name string
		at   int
	}{{"a", 10}, {"b", 9}} {
		if err := queue.Enqueue(item.name, at(item.at)); err != nil {
			t.Fatal(err)
		}
	}
	if n := queue.Prune(at(109)); n != 0 {
		t.Errorf("%d expired", n)
	}
	if item, ok := queue.Dequeue(at(109)); !ok || item != "a" {
		t.Errorf("got %q, %v", item, ok)
	}
}

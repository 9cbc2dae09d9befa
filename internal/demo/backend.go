package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/examples/notes/notes"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/world"
)

// Fault is what a backend of the demo does to itself, once, at the first
// connection or request that gets so far.
type Fault string

const (
	// FaultFreeze has the process stand still, to be frozen, when a connection has been
	// received and checked, but not claimed.
	FaultFreeze Fault = "freeze"
	// FaultKillReceived kills it when a connection has been received.
	FaultKillReceived Fault = "kill-received"
	// FaultKillExecuted kills it when a request has run, before the answer.
	FaultKillExecuted Fault = "kill-executed"
)

// Faults returns the values of Fault.
func Faults() []Fault { return []Fault{FaultFreeze, FaultKillReceived, FaultKillExecuted} }

// BackendOptions configure RunBackend.
type BackendOptions struct {
	Pipe  string // the backend's own socket
	Fault Fault  // empty: none
}

// RunBackend serves notes as one process of the demo until in ends or ctx does.
// What happens to it, and the answers to questions read from in, are lines on out;
// usher's own messages go to log.
func RunBackend(ctx context.Context, opts BackendOptions, in io.Reader, out, log io.Writer) error {
	if opts.Fault != "" && !slices.Contains(Faults(), opts.Fault) {
		return fmt.Errorf("fault %q is not one of %q", opts.Fault, Faults())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b := &backendRole{out: out, fault: opts.Fault, app: notes.New(), goOn: make(chan struct{}), over: ctx.Done()}
	b.app.OnExecute = b.executed
	failpoint.Set(b.passed)
	defer failpoint.Set(nil)
	go func() {
		defer cancel()
		_ = world.Converse(in, b.out, b.answer) // a process that nobody asks any more ends
	}()
	return notes.Run(ctx, notes.Options{Pipe: opts.Pipe, Logger: slog.New(slog.NewJSONHandler(log, nil)), App: b.app})
}

// backendRole is one backend process of the demo.
type backendRole struct {
	out   io.Writer
	fault Fault
	once  sync.Once // the fault happens once
	app   *notes.App
	goOn  chan struct{} // ends a freeze
	over  <-chan struct{}

	mu       sync.Mutex
	handoffs []steps // the last may be under way
}

// say fails when nobody listens any more, and then nobody misses it. A line is one
// Write, which standard output takes from several goroutines.
func (b *backendRole) say(e event) { _ = json.NewEncoder(b.out).Encode(e) }

func (b *backendRole) answer(q question) (event, error) {
	if q.GoOn {
		select {
		case b.goOn <- struct{}{}:
		case <-b.over:
		}
	}
	report := b.app.Report()
	e := event{Report: &report}
	if q.Handoffs {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, h := range b.handoffs {
			e.Handoffs = append(e.Handoffs, maps.Clone(h))
		}
	}
	return e, nil
}

// executed tells that a request has run: a process that is killed next has said
// so all the same.
func (b *backendRole) executed(id string) {
	b.say(event{Executed: id})
	if b.fault == FaultKillExecuted {
		b.once.Do(die)
	}
}

// passed notes the time of a step and, at the right one, is the fault.
func (b *backendRole) passed(at failpoint.Point) {
	b.note(at, time.Now().UnixMicro())
	switch {
	case b.fault == FaultKillReceived && at == failpoint.BackendReceived:
		b.once.Do(die)
	case b.fault == FaultFreeze && at == failpoint.BackendChecked:
		b.once.Do(func() {
			b.say(event{Freezing: true})
			select {
			case <-b.goOn:
			case <-b.over:
			}
		})
	}
}

func (b *backendRole) note(at failpoint.Point, us int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at == failpoint.BackendReceived {
		b.handoffs = append(b.handoffs, steps{})
	}
	b.handoffs[len(b.handoffs)-1][strings.TrimPrefix(string(at), "backend.")] = us
}

// die kills this process as a crash would: nothing is closed, nobody is told.
func die() { _ = world.Raise(syscall.SIGKILL) }

package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/seed-7265657e/usher/examples/notes/notes"
	"github.com/seed-7265657e/usher/internal/failpoint"
)

// Fault is what a backend of the demo does to itself, once, at the first
// connection or request that gets so far.
type Fault string

const (
	// FaultFreeze stops the process when a connection has been received and
	// checked, but not claimed.
	FaultFreeze Fault = "freeze"
	// FaultKillReceived kills it when a connection has been received.
	FaultKillReceived Fault = "kill-received"
	// FaultKillExecuted kills it when a request has run, before the answer.
	FaultKillExecuted Fault = "kill-executed"
)

// Faults returns the values of Fault.
func Faults() []Fault { return []Fault{FaultFreeze, FaultKillReceived, FaultKillExecuted} }

// Questions that a backend answers on its standard input.
const (
	askReport   = msgReport
	askHandoffs = msgHandoffs
)

// BackendOptions configure RunBackend.
type BackendOptions struct {
	Pipe  string // the backend's own socket
	Fault Fault  // empty: none
}

// adoption is when one handed-over connection passed which step, in Unix µs.
type adoption struct {
	Received int64 `json:"received"`
	Checked  int64 `json:"checked"`
	Claimed  int64 `json:"claimed"`
	Acked    int64 `json:"acked"`
	Replied  int64 `json:"replied"`
}

// RunBackend serves notes as one process of the demo until in ends or ctx does.
// What it does, and the answers to questions read from in, it logs to out as
// JSON.
func RunBackend(ctx context.Context, opts BackendOptions, in io.Reader, out io.Writer) error {
	if opts.Fault != "" && !slices.Contains(Faults(), opts.Fault) {
		return fmt.Errorf("fault %q is not one of %q", opts.Fault, Faults())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b := &backendRole{log: slog.New(slog.NewJSONHandler(out, nil)), fault: opts.Fault, app: notes.New()}
	b.app.OnExecute = b.executed
	failpoint.Set(b.passed)
	defer failpoint.Set(nil)
	go func() {
		defer cancel()
		b.answer(in)
	}()
	return notes.Run(ctx, notes.Options{Pipe: opts.Pipe, Logger: b.log, App: b.app})
}

// backendRole is one backend process of the demo.
type backendRole struct {
	log   *slog.Logger
	fault Fault
	once  sync.Once // the fault happens once
	app   *notes.App

	mu       sync.Mutex
	handoffs []adoption // the last may be under way
}

// answer answers questions until in ends.
func (b *backendRole) answer(in io.Reader) {
	for lines := bufio.NewScanner(in); lines.Scan(); {
		switch lines.Text() {
		case askReport:
			b.log.Info(msgReport, "report", b.app.Report())
		case askHandoffs:
			b.mu.Lock()
			handoffs := slices.Clone(b.handoffs)
			b.mu.Unlock()
			b.log.Info(msgHandoffs, "handoffs", handoffs)
		}
	}
}

// executed tells that a request has run: a process that is killed next has said
// so all the same.
func (b *backendRole) executed(id string) {
	b.log.Info(msgExecuted, "id", id)
	if b.fault == FaultKillExecuted {
		b.once.Do(b.die)
	}
}

// passed notes the time of a step and, at the right one, is the fault.
func (b *backendRole) passed(at failpoint.Point) {
	b.note(at, time.Now().UnixMicro())
	switch {
	case b.fault == FaultKillReceived && at == failpoint.BackendReceived:
		b.once.Do(b.die)
	case b.fault == FaultFreeze && at == failpoint.BackendChecked:
		b.once.Do(func() {
			b.log.Info(msgFreezing)
			if err := freeze(); err != nil {
				b.log.Error("could not freeze", "error", err)
			}
		})
	}
}

func (b *backendRole) note(at failpoint.Point, us int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at == failpoint.BackendReceived {
		b.handoffs = append(b.handoffs, adoption{Received: us})
		return
	}
	last := &b.handoffs[len(b.handoffs)-1]
	switch at {
	case failpoint.BackendChecked:
		last.Checked = us
	case failpoint.BackendClaimed:
		last.Claimed = us
	case failpoint.BackendAcked:
		last.Acked = us
	case failpoint.BackendReplied:
		last.Replied = us
	}
}

// die kills this process as a crash would: nothing is closed, nobody is told.
func (b *backendRole) die() {
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Kill()
	}
	select {} // the signal is on its way
}

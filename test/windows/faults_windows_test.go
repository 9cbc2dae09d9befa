package windows

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/test/windows/fixture"
)

// fault is a place between the broker's message and the backend's first answer at which the
// backend that is asked first is ended, or stands still, while another one lives.
type fault struct {
	point failpoint.Point
	early bool
	// What the client may be told: the right verdict, and behind it what is true as well.
	killed, frozen []verdict
}

type verdict string

const (
	answered verdict = "answered"
	unknown  verdict = "outcome unknown"
	notSent  verdict = "known not to have run"
)

// faults: before the claim is taken, another backend serves. Behind that nobody can who does
// not know whether the first one has run it: ACKs are messages here, and prove nothing.
var faults = []fault{
	{failpoint.BackendReceived, false, []verdict{answered}, []verdict{answered}},
	{failpoint.BackendChecked, false, []verdict{answered}, []verdict{answered}},
	{failpoint.BackendClaimed, false, []verdict{answered, notSent}, []verdict{notSent}},
	{failpoint.BackendAcked, false, []verdict{answered, notSent}, []verdict{notSent}},
	{failpoint.BackendReplied, false, []verdict{notSent, unknown}, []verdict{unknown}},
	{fixture.PointRead, false, []verdict{unknown}, []verdict{unknown}},
	{failpoint.BackendReceived, true, []verdict{answered}, []verdict{answered}},
	{failpoint.BackendChecked, true, []verdict{answered}, []verdict{answered}},
	{failpoint.BackendClaimed, true, []verdict{unknown}, []verdict{unknown}},
	{failpoint.BackendRead, true, []verdict{unknown}, []verdict{unknown}},
	{failpoint.BackendAcked, true, []verdict{unknown}, []verdict{unknown}},
	{fixture.PointRead, true, []verdict{unknown}, []verdict{unknown}},
}

// outcome is what a client was told.
type outcome struct {
	answer string
	err    error
}

func (o outcome) verdict() verdict {
	var lost *client.OutcomeError
	switch {
	case o.err == nil:
		return answered
	case errors.As(o.err, &lost), errors.Is(o.err, errSent):
		return unknown
	}
	return notSent
}

// errSent says that the request was written into a connection, which has given no answer.
var errSent = errors.New("sent, and not answered")

// request asks until ctx ends. It calls asked when it has written into a connection.
func request(ctx context.Context, text string, early bool, asked func()) (o outcome) {
	var c *client.Conn
	opts := fixture.Options()
	if early {
		c, o.err = client.DialWith(ctx, opts, []byte(text+"\n"))
	} else {
		c, o.err = client.Dial(ctx, opts)
	}
	if o.err != nil {
		return o
	}
	defer func() { _ = c.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if !early {
		if n, err := io.WriteString(c, text+"\n"); err != nil {
			if n > 0 {
				err = errors.Join(err, errSent)
			}
			return outcome{err: err}
		}
		asked()
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return outcome{err: errors.Join(err, errSent)}
	}
	return outcome{answer: strings.TrimSpace(answer)}
}

// met is a fault, and what has come of it.
type met struct {
	text    string
	verdict verdict
	faulty  *fixture.Process
}

// TestFaults ends a backend (TerminateProcess) at every failpoint, and has it stand still
// there until its client has been told, and go on afterwards: what a client is told is true,
// nothing runs twice, and nobody keeps a handle.
//
// How long a backend may take to acknowledge decides one thing alone: when another one is asked
// in the place of one that stands still. Everywhere else nobody is late, however busy the machine.
func TestFaults(t *testing.T) {
	for _, group := range []struct {
		name        string
		ackDeadline time.Duration
		of          func(f fault, kill bool) bool
	}{
		{"overdue", 500 * time.Millisecond, func(f fault, kill bool) bool { return !kill && f.frozen[0] == answered }},
		{"in time", fixture.Patience, func(f fault, kill bool) bool { return kill || f.frozen[0] != answered }},
	} {
		t.Run(group.name, func(t *testing.T) { testFaults(t, group.ackDeadline, group.of) })
	}
}

func testFaults(t *testing.T, ackDeadline time.Duration, of func(f fault, kill bool) bool) {
	rounds := testutil.Repeat(t, "USHER_FAULT_ROUNDS", 2, 1)
	fixture.Surroundings(t)
	serving := fixture.Broker(t, "--ack-deadline", ackDeadline.String(), "--backend-wait", "10ms")
	steady := registered(t, role{})
	var all []met
	every := func(rounds int) {
		for _, f := range faults {
			for _, kill := range []bool{true, false} {
				for range rounds {
					if of(f, kill) {
						all = append(all, meet(t, steady, f, kill, fmt.Sprintf("%d-%s-%v-%v", len(all), f.point, f.early, kill)))
					}
				}
			}
		}
	}
	every(rounds)
	// Threads of the runtime have handles too, but do not become more for ever.
	const passes = 5
	for pass := range passes {
		met, before, beforeSteady := len(all), serving.Handles(), steady.Handles()
		every(2)
		some := (len(all) - met) / 2
		leaked := func() bool { return serving.Handles()-before >= some || steady.Handles()-beforeSteady >= some }
		if testutil.Settles(func() bool { return !leaked() }) {
			break
		}
		if pass == passes-1 {
			t.Errorf("after %d faults the broker has %d handles more, and the backend %d", 2*some, serving.Handles()-before, steady.Handles()-beforeSteady)
		}
	}
	t.Logf("%d faults", len(all))
	steady.Leave()
	steady.Ends() // and has said all
	for _, m := range all {
		ran := m.faulty.Said("ran "+m.text) + steady.Said("ran "+m.text)
		if ran > 1 || m.verdict == answered && ran != 1 || m.verdict == notSent && ran != 0 {
			t.Errorf("%s: %s, and was run %d times", m.text, m.verdict, ran)
		}
	}
}

// meet is one fault.
func meet(t *testing.T, steady *fixture.Process, f fault, kill bool, text string) met {
	t.Helper()
	faulty := registered(t, role{Point: f.point, Freeze: true}) // the newest is asked first
	ctx, cancel := context.WithTimeout(t.Context(), fixture.Patience)
	defer cancel()
	told, asked := make(chan outcome, 1), make(chan struct{})
	go func() { told <- request(ctx, text, f.early, func() { close(asked) }) }()
	faulty.Until("at ")
	want := f.frozen
	if kill {
		want = f.killed
		faulty.Kill()
	} else if want[0] != answered { // nobody else can answer
		if want[0] == unknown && !f.early { // it has its connection, and is to ask on it
			select {
			case <-asked:
			case <-ctx.Done():
			}
		}
		cancel()
	}
	got := <-told
	if !kill {
		faulty.Tell("go on")
		faulty.Leave() // it serves what it has, and ends
	}
	faulty.Ends()
	if !slices.Contains(want, got.verdict()) {
		t.Errorf("%s: %s, %q, %v; want %q", text, got.verdict(), got.answer, got.err, want)
	}
	if got.verdict() == answered && got.answer != fixture.Answer(text, steady.PID(), true) && got.answer != fixture.Answer(text, steady.PID(), false) {
		t.Errorf("%s: answered %q", text, got.answer)
	}
	return met{text, got.verdict(), faulty}
}

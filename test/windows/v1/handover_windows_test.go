package v1

import (
	"context"
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

// v1Names are the pipe and the handoff endpoint of a backend that does not register.
func v1Names(t *testing.T) (pipe, endpoint string) {
	t.Helper()
	name := fixture.PipeName()
	return name, name + "-handoff"
}

// v1Site is a broker, and a backend that it knows by its pipes alone.
func v1Site(t *testing.T, r role, args ...string) (serving, lines *fixture.Process) {
	t.Helper()
	r, lines = v1Backend(t, r)
	return v1Broker(t, r, args...), lines
}

// v1Backend is a backend that listens where the role says that it returns.
func v1Backend(t *testing.T, r role) (role, *fixture.Process) {
	t.Helper()
	fixture.Surroundings(t)
	r.Pipe, r.Endpoint = v1Names(t)
	lines := fixture.Start(t, "backend", r)
	lines.Until("listening")
	return r, lines
}

func v1Broker(t *testing.T, r role, args ...string) *fixture.Process {
	t.Helper()
	serving := fixture.Broker(t, append(args, "--backend", fmt.Sprintf("%s@%s=%s,handoff=%s", fixture.Service, fixture.Version, r.Pipe, r.Endpoint))...)
	serving.Until("static_found")
	return serving
}

// ask sends a line, and returns the answer and the connection, which is the caller's.
func ask(opts client.Options, line string, early bool) (string, *client.Conn, error) {
	opts.Service, opts.Version = fixture.Service, fixture.Version
	return fixture.Ask(opts, line, early)
}

// verdict is what is known of a request.
type verdict string

const (
	answered verdict = "answered"
	unknown  verdict = "outcome unknown"
	notSent  verdict = "known not to have run"
)

func request(line string) (verdict, error) {
	c, err := client.Dial(context.Background(), fixture.Options())
	if err != nil {
		return notSent, err
	}
	defer func() { _ = c.Close() }()
	switch n, err := io.WriteString(c, line+"\n"); {
	case err != nil && n > 0:
		return unknown, err
	case err != nil:
		return notSent, err
	}
	if _, err := fixture.ReadLine(c); err != nil {
		return unknown, err
	}
	return answered, nil
}

// settles is where the handles of a process come back to what they were: its runtime's threads
// have some too, and do not become more for ever.
func settles(t *testing.T, p *fixture.Process, many int, again func()) {
	t.Helper()
	const passes = 5
	for range passes {
		before := p.Handles()
		again()
		if testutil.Settles(func() bool { return p.Handles()-before < many }) {
			return
		}
	}
	t.Errorf("process %d has more handles after %d passes of %d connections each", p.PID(), passes, many)
}

// TestV1HandsOver to a backend that knows no claim: by a handle value in the offer.
func TestV1HandsOver(t *testing.T) {
	serving, lines := v1Site(t, role{})
	many := func(rounds int) {
		for i := range rounds {
			request := fmt.Sprint("request", i)
			answer, c, err := ask(client.Options{}, request, false)
			if err != nil {
				t.Fatal(err)
			}
			if want := fixture.Answer(request, lines.PID(), true); answer != want || c.Route() != client.HandedOver {
				t.Fatalf("%s, answered %q, not %q", c.Route(), answer, want)
			}
			_ = c.Close()
		}
	}
	many(20)
	const rounds = 60
	settles(t, serving, rounds, func() { many(rounds) })
	settles(t, lines, rounds, func() { many(rounds) })
	for _, early := range []bool{true, false} { // early data needs a claim
		answer, c, err := ask(client.Options{NoHandoff: !early}, "other", early)
		if err != nil {
			t.Fatal(err)
		}
		if answer != fixture.Answer("other", lines.PID(), false) || c.Route() != client.Reconnected {
			t.Errorf("%s, answered %q", c.Route(), answer)
		}
		_ = c.Close()
	}
}

// TestV1AckMissed: broker and backend have the connection both, so its client sees an end only
// when both have closed it. It may wait for that, or for its own time; then it reconnects, and
// what the backend reads afterwards is nothing.
func TestV1AckMissed(t *testing.T) {
	for _, test := range []struct {
		offers, then string
		ready        time.Duration
	}{
		{"close", "closed", fixture.Patience},
		{"read", `read ""`, 50 * time.Millisecond},
	} {
		t.Run(test.offers, func(t *testing.T) {
			serving, lines := v1Site(t, role{Offers: test.offers}, "--ack-deadline", "20ms")
			reconnects(t, lines, client.Options{ReadyTimeout: test.ready})
			lines.Until(test.then)
			wantFallback(t, serving, `"leaked_backend_handle":`, `"fd_reached_backend":true`, `"verdict":"unknown"`, `"reason":"BackendAckTimeout"`)
			lines.Leave()
			lines.Ends()
			if n := lines.Said("ran once"); n != 1 {
				t.Errorf("it was run %d times", n)
			}
		})
	}
}

// TestV1Frozen between the offer and the answer, and going on when its client has been answered
// elsewhere.
func TestV1Frozen(t *testing.T) {
	_, lines := v1Site(t, role{Point: failpoint.BackendReceived, Freeze: true}, "--ack-deadline", "100ms")
	reconnects(t, lines, client.Options{})
	lines.Until("at ")
	lines.Tell("go on")
	lines.Leave()
	lines.Ends()
	if n := lines.Said("ran once"); n != 1 {
		t.Errorf("it was run %d times", n)
	}
}

// TestV1Killed between the offer and the answer: what the client is told is true.
func TestV1Killed(t *testing.T) {
	for point, want := range map[failpoint.Point][]verdict{
		failpoint.BackendReceived: {notSent},
		failpoint.BackendAcked:    {notSent, unknown},
		fixture.PointRead:         {unknown},
	} {
		t.Run(string(point), func(t *testing.T) {
			_, lines := v1Site(t, role{Point: point}, "--backend-wait", "10ms")
			got, err := request("once")
			lines.Until("at ")
			lines.Ends()
			ran := lines.Said("ran once")
			if !slices.Contains(want, got) || ran > 1 || got == notSent && ran != 0 {
				t.Errorf("%s, %v, and it was run %d times", got, err, ran)
			}
		})
	}
}

// TestV1Rejected: both have closed what they had, so the client knows at once.
func TestV1Rejected(t *testing.T) {
	serving, lines := v1Site(t, role{Offers: "reject"})
	reconnects(t, lines, client.Options{ReadyTimeout: fixture.Patience})
	wantFallback(t, serving, `"nack":true`, "not today", `"verdict":"not_taken"`, `"leaked_backend_handle":`)
}

// TestV1NobodyGetsAHandle who is not the backend, or does not let the broker in.
func TestV1NobodyGetsAHandle(t *testing.T) {
	t.Run("another process", func(t *testing.T) {
		fixture.Surroundings(t)
		r, other := role{}, role{}
		r.Pipe, r.Endpoint = v1Names(t)
		other.Pipe, _ = v1Names(t)
		lines := fixture.Start(t, "backend", role{Pipe: r.Pipe})
		lines.Until("listening")
		thief := fixture.Start(t, "backend", role{Pipe: other.Pipe, Endpoint: r.Endpoint})
		thief.Until("listening")
		serving := v1Broker(t, r)
		wantReconnected(t, serving, lines, "is served by process")
		thief.Leave()
		thief.Ends()
	})
	t.Run("access denied", func(t *testing.T) {
		serving, lines := v1Site(t, role{Shut: true})
		wantReconnected(t, serving, lines, "can't be opened")
	})
}

// wantReconnected: the client is answered on the backend's own pipe, and the broker says why.
func wantReconnected(t *testing.T, serving, lines *fixture.Process, why string) {
	t.Helper()
	reconnects(t, lines, client.Options{ReadyTimeout: fixture.Patience})
	wantFallback(t, serving, `"stage":"Transfer"`, `"reason":"PermissionDenied"`, `"fd_reached_backend":false`, `"verdict":"not_taken"`, why)
}

// reconnects: a client with opts is answered by lines, on its own pipe.
func reconnects(t *testing.T, lines *fixture.Process, opts client.Options) {
	t.Helper()
	answer, c, err := ask(opts, "once", false)
	if err != nil {
		t.Fatal(err)
	}
	if answer != fixture.Answer("once", lines.PID(), false) || c.Route() != client.Reconnected {
		t.Errorf("%s, answered %q", c.Route(), answer)
	}
	_ = c.Close()
}

// wantFallback: the broker says that a handoff fell back, with all of wants.
func wantFallback(t *testing.T, serving *fixture.Process, wants ...string) {
	t.Helper()
	told := serving.Until("handoff fell back")
	for _, want := range wants {
		if !strings.Contains(told, want) {
			t.Errorf("no %s in %s", want, told)
		}
	}
}

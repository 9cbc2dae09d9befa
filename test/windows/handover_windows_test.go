package windows

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/test/windows/fixture"
)

// TestHandsOver: broker, backend and clients are processes of their own.
func TestHandsOver(t *testing.T) {
	fixture.Surroundings(t)
	serving := fixture.Broker(t)
	lines := registered(t, role{})
	one := fixture.Start(t, "client", role{Request: "hello"})
	if got := one.Until("hello"); got != "handed_over "+fixture.Answer("hello", lines.PID(), true) {
		t.Errorf("another process was answered %q", got)
	}
	many := func(rounds int) {
		for i := range rounds {
			request := fmt.Sprint("request", i)
			for _, early := range []bool{false, true} {
				answer, c, err := fixture.Ask(fixture.Options(), request, early)
				if err != nil {
					t.Fatal(err)
				}
				if want := fixture.Answer(request, lines.PID(), true); answer != want || c.Route() != client.HandedOver {
					t.Fatalf("%s, answered %q, not %q", c.Route(), answer, want)
				}
				_ = c.Close()
			}
		}
	}
	many(20)
	const rounds = 100
	before, beforeLines := serving.Handles(), lines.Handles()
	many(rounds)
	for name, leak := range map[string]func() int{
		"broker":  func() int { return serving.Handles() - before },
		"backend": func() int { return lines.Handles() - beforeLines },
	} { // threads of the runtime have handles too
		if !testutil.Settles(func() bool { return leak() < rounds }) {
			t.Errorf("%s has %d handles more, after %d connections", name, leak(), 2*rounds)
		}
	}
	reconnecting := fixture.Options()
	reconnecting.NoHandoff = true
	answer, c, err := fixture.Ask(reconnecting, "other", false)
	if err != nil {
		t.Fatal(err)
	}
	if answer != fixture.Answer("other", lines.PID(), false) || c.Route() != client.Reconnected {
		t.Errorf("%s, answered %q", c.Route(), answer)
	}
	_ = c.Close()
	if status := fixture.Usher(t, "status"); !strings.Contains(status, "claims by event") || !strings.Contains(status, "processes by handle") {
		t.Error(status)
	}
}

// TestLongConnection: both directions at once, more than a pipe holds.
func TestLongConnection(t *testing.T) {
	fixture.Surroundings(t)
	fixture.Broker(t)
	registered(t, role{})
	answer, c, err := fixture.Ask(fixture.Options(), "first", true)
	if err != nil {
		t.Fatal(answer, err)
	}
	defer func() { _ = c.Close() }()
	request := strings.Repeat("x", 32<<10)
	const requests = 64
	go func() {
		for range requests {
			if _, err := io.WriteString(c, request+"\n"); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	got := make([]byte, 64<<10)
	for answered := 0; answered < requests; {
		n, err := c.Read(got)
		if err != nil {
			t.Fatal(err)
		}
		answered += strings.Count(string(got[:n]), "\n")
	}
}

func TestHTTP(t *testing.T) {
	fixture.Surroundings(t)
	fixture.Broker(t)
	serving := registered(t, role{Protocol: "http"})
	transport := &http.Transport{DialContext: client.HTTP(fixture.Options())}
	defer transport.CloseIdleConnections()
	for range 3 {
		resp, err := (&http.Client{Transport: transport}).Get("http://lines/path")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if want := fmt.Sprintln(serving.PID(), "/path"); string(body) != want || err != nil {
			t.Errorf("answered %q, %v; want %q", body, err, want)
		}
	}
}

func TestGRPC(t *testing.T) {
	fixture.Surroundings(t)
	fixture.Broker(t)
	registered(t, role{Protocol: "grpc"})
	for _, noHandoff := range []bool{false, true} {
		opts := fixture.Options()
		opts.NoHandoff = noHandoff
		conn, err := grpc.NewClient("passthrough:///lines",
			grpc.WithContextDialer(client.GRPC(opts)),
			grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), fixture.Patience)
		answer, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
		cancel()
		if err != nil || answer.Status != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("handed over %v: %v, %v", !noHandoff, answer, err)
		}
		_ = conn.Close()
	}
}

// TestBrokerKilled: what it has handed over lives on, and keeps its pipe's name in use; the
// next broker serves at that name, and the backend finds it.
func TestBrokerKilled(t *testing.T) {
	fixture.Surroundings(t)
	serving := fixture.Broker(t)
	lines := registered(t, role{})
	_, c, err := fixture.Ask(fixture.Options(), "first", false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	second := fixture.Start(t, "usher", fixture.Serve())
	second.Until(fmt.Sprintf("(pid %d) already serves", serving.PID()))
	if code := second.Ends(); code != 1 {
		t.Errorf("a second broker ended with %d", code)
	}
	serving.Kill()
	serving.Ends()
	if _, err := io.WriteString(c, "second\n"); err != nil {
		t.Fatal(err)
	}
	if answer, err := fixture.ReadLine(c); answer != fixture.Answer("second", lines.PID(), true) {
		t.Errorf("without a broker: %q, %v", answer, err)
	}
	fixture.Broker(t)
	answer, again, err := fixture.Ask(fixture.Options(), "third", false) // it waits for a backend that is expected
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	if answer != fixture.Answer("third", lines.PID(), true) {
		t.Errorf("by the next broker: %q", answer)
	}
}

// TestBackendFrozen before it has taken the connection: another one gets that.
func TestBackendFrozen(t *testing.T) {
	fixture.Surroundings(t)
	fixture.Broker(t, "--ack-deadline", "500ms")
	frozen := registered(t, role{Point: failpoint.BackendChecked, Freeze: true})
	steady := registered(t, role{})
	for i := range 3 {
		request := fmt.Sprint("request", i)
		answer, c, err := fixture.Ask(fixture.Options(), request, true)
		// Should this one be late as well, it is sent the client.
		if err != nil || answer != fixture.Answer(request, steady.PID(), c.Route() == client.HandedOver) {
			t.Fatalf("%q, %v", answer, err)
		}
		_ = c.Close()
	}
	if n := frozen.Said("ran request0"); n != 0 {
		t.Errorf("the frozen one has run it %d times", n)
	}
}

// TestBackendKilled at each step: a request is run once at most, and who is told that it was
// not is told so by no mistake.
func TestBackendKilled(t *testing.T) {
	for _, point := range []failpoint.Point{
		failpoint.BackendReceived, failpoint.BackendChecked, failpoint.BackendClaimed,
		failpoint.BackendRead, failpoint.BackendAcked, failpoint.BackendReplied, fixture.PointRead,
	} {
		for _, early := range []bool{false, true} {
			if !early && point == failpoint.BackendRead || early && point == failpoint.BackendReplied {
				continue // passed with early data alone, or only without: then the reply goes with the first answer
			}
			t.Run(fmt.Sprintf("%s early=%v", point, early), func(t *testing.T) {
				fixture.Surroundings(t)
				fixture.Broker(t, "--backend-wait", "10ms")
				killed := registered(t, role{Point: point})
				answer, c, err := fixture.Ask(fixture.Options(), "once", early)
				if err == nil {
					t.Fatalf("answered %q on %s by a process that was killed", answer, c.Route())
				}
				killed.Until("at ")
				killed.Ends()
				ran := killed.Said("ran once")
				if ran > 1 || ran == 1 && point != fixture.PointRead {
					t.Errorf("it was run %d times", ran)
				}
				var unknown *client.OutcomeError
				if ran == 1 && !errors.As(err, &unknown) {
					t.Errorf("it was run, and the client is told: %v", err)
				}
			})
		}
	}
}

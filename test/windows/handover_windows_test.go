package windows

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestHandsOver: broker, backend and clients are processes of their own.
func TestHandsOver(t *testing.T) {
	surroundings(t)
	serving := broker(t)
	lines := registered(t, role{})
	one := start(t, "client", role{Request: "hello"})
	if got := one.until("hello"); got != "handed_over "+answerOf(lines, "hello", true) {
		t.Errorf("another process was answered %q", got)
	}
	many := func(rounds int) {
		for i := range rounds {
			request := fmt.Sprint("request", i)
			for _, early := range []bool{false, true} {
				answer, c, err := ask(client.Options{}, request, early)
				if err != nil {
					t.Fatal(err)
				}
				if want := answerOf(lines, request, true); answer != want || c.Route() != client.HandedOver {
					t.Fatalf("%s, answered %q, not %q", c.Route(), answer, want)
				}
				_ = c.Close()
			}
		}
	}
	many(20)
	const rounds = 100
	before, beforeLines := serving.handles(), lines.handles()
	many(rounds)
	for name, leak := range map[string]func() int{
		"broker":  func() int { return serving.handles() - before },
		"backend": func() int { return lines.handles() - beforeLines },
	} { // threads of the runtime have handles too
		if !testutil.Settles(func() bool { return leak() < rounds }) {
			t.Errorf("%s has %d handles more, after %d connections", name, leak(), 2*rounds)
		}
	}
	answer, c, err := ask(client.Options{NoHandoff: true}, "other", false)
	if err != nil {
		t.Fatal(err)
	}
	if answer != answerOf(lines, "other", false) || c.Route() != client.Reconnected {
		t.Errorf("%s, answered %q", c.Route(), answer)
	}
	_ = c.Close()
	if status := usher(t, "status"); !strings.Contains(status, "claims by event") || !strings.Contains(status, "processes by handle") {
		t.Error(status)
	}
}

// TestLongConnection: both directions at once, more than a pipe holds.
func TestLongConnection(t *testing.T) {
	surroundings(t)
	broker(t)
	registered(t, role{})
	answer, c, err := ask(client.Options{}, "first", true)
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
	surroundings(t)
	broker(t)
	serving := registered(t, role{Protocol: "http"})
	transport := &http.Transport{DialContext: client.HTTP(client.Options{Service: service, Version: version})}
	defer transport.CloseIdleConnections()
	for range 3 {
		resp, err := (&http.Client{Transport: transport}).Get("http://lines/path")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if want := fmt.Sprintln(serving.cmd.Process.Pid, "/path"); string(body) != want || err != nil {
			t.Errorf("answered %q, %v; want %q", body, err, want)
		}
	}
}

func TestGRPC(t *testing.T) {
	surroundings(t)
	broker(t)
	registered(t, role{Protocol: "grpc"})
	for _, noHandoff := range []bool{false, true} {
		conn, err := grpc.NewClient("passthrough:///lines",
			grpc.WithContextDialer(client.GRPC(client.Options{Service: service, Version: version, NoHandoff: noHandoff})),
			grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
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
	surroundings(t)
	serving := broker(t)
	lines := registered(t, role{})
	_, c, err := ask(client.Options{}, "first", false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	second := start(t, "usher", role{Arguments: []string{"serve"}})
	second.until(fmt.Sprintf("(pid %d) already serves", serving.cmd.Process.Pid))
	if code := second.ends(); code != 1 {
		t.Errorf("a second broker ended with %d", code)
	}
	if err := serving.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	serving.ends()
	if _, err := io.WriteString(c, "second\n"); err != nil {
		t.Fatal(err)
	}
	if answer, err := line(c); answer != answerOf(lines, "second", true) {
		t.Errorf("without a broker: %q, %v", answer, err)
	}
	broker(t)
	answer, again, err := ask(client.Options{}, "third", false) // it waits for a backend that is expected
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	if answer != answerOf(lines, "third", true) {
		t.Errorf("by the next broker: %q", answer)
	}
}

// TestBackendFrozen before it has taken the connection: another one gets that.
func TestBackendFrozen(t *testing.T) {
	surroundings(t)
	broker(t, "--ack-deadline", "500ms")
	frozen := registered(t, role{Point: failpoint.BackendChecked, Freeze: true})
	steady := registered(t, role{})
	for i := range 3 {
		request := fmt.Sprint("request", i)
		answer, c, err := ask(client.Options{}, request, true)
		// Should this one be late as well, it is sent the client.
		if err != nil || answer != answerOf(steady, request, c.Route() == client.HandedOver) {
			t.Fatalf("%q, %v", answer, err)
		}
		_ = c.Close()
	}
	if n := frozen.ran("request0"); n != 0 {
		t.Errorf("the frozen one has run it %d times", n)
	}
}

// TestBackendKilled at each step: a request is run once at most, and who is told that it was
// not is told so by no mistake.
func TestBackendKilled(t *testing.T) {
	for _, point := range []failpoint.Point{
		failpoint.BackendReceived, failpoint.BackendChecked, failpoint.BackendClaimed,
		failpoint.BackendRead, failpoint.BackendAcked, failpoint.BackendReplied, pointRead,
	} {
		for _, early := range []bool{false, true} {
			if !early && point == failpoint.BackendRead || early && point == failpoint.BackendReplied {
				continue // passed with early data alone, or only without: then the reply goes with the first answer
			}
			t.Run(fmt.Sprintf("%s early=%v", point, early), func(t *testing.T) {
				surroundings(t)
				broker(t, "--backend-wait", "10ms")
				killed := registered(t, role{Point: point})
				answer, c, err := ask(client.Options{}, "once", early)
				if err == nil {
					t.Fatalf("answered %q on %s by a process that was killed", answer, c.Route())
				}
				killed.until("at ")
				killed.ends()
				ran := killed.ran("once")
				if ran > 1 || ran == 1 && point != pointRead {
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

// TestShutdown, and the keys that end a console program: connections that were handed over
// live on, and the broker has ended well.
func TestShutdown(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, serving *process){
		"usher shutdown": func(t *testing.T, _ *process) { usher(t, "shutdown") },
		"Ctrl-Break": func(t *testing.T, serving *process) {
			if err := windows.GenerateConsoleCtrlEvent(windows.CTRL_BREAK_EVENT, uint32(serving.cmd.Process.Pid)); err != nil {
				t.Skipf("no console: %v", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			surroundings(t)
			serving := broker(t)
			lines := registered(t, role{})
			_, c, err := ask(client.Options{}, "first", false)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			end(t, serving)
			if code := serving.ends(); code != 0 {
				t.Errorf("it ended with %d", code)
			}
			if _, err := io.WriteString(c, "second\n"); err != nil {
				t.Fatal(err)
			}
			if answer, err := line(c); answer != answerOf(lines, "second", true) {
				t.Errorf("%q, %v", answer, err)
			}
			if _, err := client.Dial(context.Background(), client.Options{Service: service, Version: version}); !errors.Is(err, client.ErrBrokerUnreachable) {
				t.Errorf("dialled: %v", err)
			}
		})
	}
}

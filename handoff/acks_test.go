package handoff

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/testutil"
)

type ackStep struct {
	Op           string `json:"op"`
	At           int    `json:"at"`
	Token        string `json:"token"`
	Service      string `json:"service"`
	Expect       any    `json:"expect"`
	Failure      string `json:"failure"`
	StillPending *bool  `json:"token_still_pending_in_store"`
}

type ackVectors struct {
	AckRegistry struct {
		Defaults struct {
			Deadline int `json:"deadline_ms"`
		} `json:"defaults"`
		Clamps    []clampVector `json:"clamps"`
		Scenarios []struct {
			Name     string    `json:"name"`
			Deadline int       `json:"deadline_ms"`
			Steps    []ackStep `json:"steps"`
		} `json:"scenarios"`
	} `json:"ack_registry"`
}

func readAckVectors(t *testing.T) ackVectors {
	t.Helper()
	var v ackVectors
	testutil.Vectors(t, "behaviour.json", &v)
	if len(v.AckRegistry.Scenarios) == 0 {
		t.Fatal("no scenarios")
	}
	return v
}

func TestAckVectors(t *testing.T) {
	for _, scenario := range readAckVectors(t).AckRegistry.Scenarios {
		t.Run(scenario.Name, func(t *testing.T) {
			s := newStore(t, 1024, 16, scenario.Deadline)
			for i, step := range scenario.Steps {
				if got, want := s.ackStep(step), wantAck(step); got != want {
					t.Fatalf("step %d, %s at %d: got %s, want %s", i, step.Op, step.At, got, want)
				}
			}
		})
	}
}

// ackStep does one step. The registry's entry for a token is the attempt that has it:
// issuing without registering makes one that nobody is named for, and registering anew
// issues the same token to another backend.
func (s *store) ackStep(step ackStep) string {
	s.t.Helper()
	switch step.Op {
	case "expire_overdue":
		var expired []string
		for _, a := range s.prune(step.At) {
			out := a.Unanswered(ErrNoAck, at(step.At))
			if step.Failure != "" && string(out.Reason) != step.Failure {
				s.t.Errorf("reason %s, want %s", out.Reason, step.Failure)
			}
			expired = append(expired, hex.EncodeToString(a.token[:]))
		}
		return "[" + strings.Join(expired, " ") + "]"
	case "issue", "issue+register", "register":
		token := hexToken(s.t, step.Token)
		s.revoke(token)
		if got := s.issue(step.Service, step.At, token); got != step.Token {
			s.t.Fatalf("issue: %s", got)
		}
		return ""
	}
	token := hexToken(s.t, step.Token)
	got := ""
	switch step.Op {
	case "acknowledge":
		a, waited, err := s.acknowledge(token, token, step.At)
		var late *AckDeadlineError
		switch {
		case errors.As(err, &late):
			got = "AckDeadlineExceeded"
		case err != nil:
			return errorName(err)
		default:
			got = fmt.Sprintf("waited=%d", waited.Milliseconds())
			if want, ok := step.Expect.(map[string]any); ok && want["service"] != nil {
				got += " service=" + a.Backend.Service
			}
		}
	case "abandon":
		got = "<nil>"
		if a := s.pending(token); a != nil && a.Backend.Service != "" {
			got = a.Backend.Service
		}
		s.revoke(token)
	default:
		s.t.Fatalf("unknown operation %q", step.Op)
	}
	if wantsPending(step) != nil {
		got += fmt.Sprintf(" pending=%v", s.pending(token) != nil)
	}
	return got
}

func wantsPending(step ackStep) any {
	if step.StillPending != nil {
		return *step.StillPending
	}
	if fields, ok := step.Expect.(map[string]any); ok {
		return fields["token_still_pending_in_store"]
	}
	return nil
}

func wantAck(step ackStep) string {
	var want string
	switch expect := step.Expect.(type) {
	case map[string]any:
		want = fmt.Sprintf("waited=%v", expect["waited_ms"])
		if service, ok := expect["service"]; ok {
			want += fmt.Sprintf(" service=%v", service)
		}
	case nil:
		if step.Op == "abandon" {
			want = "<nil>"
		}
	default:
		want = fmt.Sprint(expect)
	}
	if pending := wantsPending(step); pending != nil {
		want += fmt.Sprintf(" pending=%v", pending)
	}
	return want
}

func TestAckDefaults(t *testing.T) {
	v := readAckVectors(t).AckRegistry
	if DefaultAckDeadline != millis(v.Defaults.Deadline) {
		t.Errorf("default deadline %s, want %d ms", DefaultAckDeadline, v.Defaults.Deadline)
	}
	table := NewTable(DefaultConfig())
	for _, clamp := range v.Clamps {
		var a Attempt
		if err := table.Issue(&a, millis(clamp.Given), at(0)); err != nil || !a.Deadline().Equal(at(clamp.Used)) {
			t.Errorf("%v; a deadline of %d ms became %s", err, clamp.Given, a.Deadline().Sub(at(0)))
		}
	}
}

func TestAckDeadlineErrorNamesBackend(t *testing.T) {
	for want, backend := range map[string]Backend{
		"backend demo-svc ":          {Service: "demo-svc"},
		"backend demo-svc (pid 17) ": {Service: "demo-svc", PID: 17},
	} {
		err := &AckDeadlineError{Backend: backend, Deadline: at(0)}
		if !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q does not begin with %q", err, want)
		}
	}
}

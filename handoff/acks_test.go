package handoff_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/handoff"
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
			random := &scriptedRandom{t: t}
			config := handoff.DefaultTokenConfig()
			config.Random = random
			tokens := handoff.NewTokens(config)
			acks := handoff.NewAcks(tokens, millis(scenario.Deadline))
			for i, step := range scenario.Steps {
				before := acks.Pending()
				if got, want := runAckStep(t, tokens, acks, random, step), wantAck(step); got != want {
					t.Fatalf("step %d, %s at %d: got %s, want %s", i, step.Op, step.At, got, want)
				}
				if got := acks.Pending(); step.Op == "acknowledge" && got > before {
					t.Fatalf("step %d: %d entries after %d", i, got, before)
				}
			}
		})
	}
}

func runAckStep(t *testing.T, tokens *handoff.Tokens, acks *handoff.Acks, random *scriptedRandom, step ackStep) string {
	t.Helper()
	switch step.Op {
	case "issue", "issue+register":
		want := hexToken(t, step.Token)
		random.left.Write(want[:])
		token, err := tokens.Issue(at(step.At))
		if err != nil || token != want {
			t.Fatalf("issue: %v", err)
		}
		if step.Op == "issue+register" {
			acks.Register(token, handoff.Backend{Service: step.Service}, at(step.At))
		}
		return ""
	case "register":
		acks.Register(hexToken(t, step.Token), handoff.Backend{Service: step.Service}, at(step.At))
		return ""
	case "acknowledge":
		token := hexToken(t, step.Token)
		acked, err := acks.Acknowledge(token, at(step.At))
		var late *handoff.AckDeadlineError
		switch {
		case errors.As(err, &late):
			if late.Reason() != handoff.BackendAckTimeout {
				t.Errorf("reason %s", late.Reason())
			}
			return withPending(t, tokens, step, "AckDeadlineExceeded")
		case err != nil:
			return tokenErrorName(err)
		case acked.Token != token:
			t.Error("another token was acknowledged")
		}
		got := fmt.Sprintf("waited=%d", acked.Waited.Milliseconds())
		if want, ok := step.Expect.(map[string]any); ok && want["service"] != nil {
			got += " service=" + acked.Backend.Service
		}
		return withPending(t, tokens, step, got)
	case "abandon":
		backend, ok := acks.Abandon(hexToken(t, step.Token))
		if !ok {
			return withPending(t, tokens, step, "<nil>")
		}
		return withPending(t, tokens, step, backend.Service)
	case "expire_overdue":
		var expired []string
		for _, overdue := range acks.ExpireOverdue(at(step.At)) {
			if step.Failure != "" && string(overdue.Reason()) != step.Failure {
				t.Errorf("reason %s, want %s", overdue.Reason(), step.Failure)
			}
			if overdue.Deadline.After(at(step.At)) {
				t.Errorf("expired before its deadline %s", overdue.Deadline)
			}
			expired = append(expired, hex.EncodeToString(overdue.Token[:]))
		}
		return "[" + strings.Join(expired, " ") + "]"
	default:
		t.Fatalf("unknown operation %q", step.Op)
		return ""
	}
}

// withPending adds whether the token is still in the store, where the step says
// what it must be. Revoking tells, and changes nothing when it is not.
func withPending(t *testing.T, tokens *handoff.Tokens, step ackStep, result string) string {
	t.Helper()
	if wantsPending(step) == nil {
		return result
	}
	return fmt.Sprintf("%s pending=%v", result, tokens.Revoke(hexToken(t, step.Token)))
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
		if expect["waited_ms"] == nil {
			want = fmt.Sprint(expect)
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
	if handoff.DefaultAckDeadline != millis(v.Defaults.Deadline) {
		t.Errorf("default deadline %s, want %d ms", handoff.DefaultAckDeadline, v.Defaults.Deadline)
	}
	tokens := handoff.NewTokens(handoff.DefaultTokenConfig())
	for _, clamp := range v.Clamps {
		if got := handoff.NewAcks(tokens, millis(clamp.Given)).Deadline(); got != millis(clamp.Used) {
			t.Errorf("deadline of %d ms became %s", clamp.Given, got)
		}
	}
}

func TestAckDeadlineErrorNamesBackend(t *testing.T) {
	for want, backend := range map[string]handoff.Backend{
		"backend demo-svc ":          {Service: "demo-svc"},
		"backend demo-svc (pid 17) ": {Service: "demo-svc", PID: 17},
	} {
		err := &handoff.AckDeadlineError{Backend: backend, Deadline: at(0)}
		if !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q does not begin with %q", err, want)
		}
	}
}

// TestAcknowledgeUnknownTouchesNothing: an ACK without an entry leaves the token
// store alone.
func TestAcknowledgeUnknownTouchesNothing(t *testing.T) {
	tokens := handoff.NewTokens(handoff.DefaultTokenConfig())
	acks := handoff.NewAcks(tokens, time.Second)
	token, err := tokens.Issue(at(0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := acks.Acknowledge(token, at(0)); !errors.Is(err, handoff.ErrTokenNotPending) {
		t.Errorf("got %v", err)
	}
	if tokens.Pending() != 1 {
		t.Error("the token is gone")
	}
}

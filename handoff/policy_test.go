package handoff

import (
	"fmt"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/testutil"
)

type policyVectors struct {
	Fallback struct {
		Defaults struct {
			MaxFailed int `json:"max_failed"`
			Window    int `json:"window_ms"`
		} `json:"defaults"`
		Clamps        []clampVector `json:"clamps"`
		DecisionOrder []struct {
			Client     bool   `json:"client"`
			Policy     bool   `json:"policy"`
			FDPressure bool   `json:"fd_pressure"`
			Adopted    bool   `json:"adopted"`
			Expect     string `json:"expect"`
		} `json:"decision_order"`
		Scenarios []struct {
			Name      string `json:"name"`
			MaxFailed int    `json:"max_failed"`
			Window    int    `json:"window_ms"`
			Steps     []struct {
				Op         string `json:"op"`
				At         int    `json:"at"`
				Failure    string `json:"failure"`
				Expect     any    `json:"expect"`
				RetryAfter int    `json:"retry_after_ms"`
			} `json:"steps"`
		} `json:"scenarios"`
	} `json:"fallback"`
}

func readPolicyVectors(t *testing.T) policyVectors {
	t.Helper()
	var v policyVectors
	testutil.Vectors(t, "behaviour.json", &v)
	if len(v.Fallback.Scenarios) == 0 || len(v.Fallback.DecisionOrder) == 0 {
		t.Fatal("no scenarios")
	}
	return v
}

var (
	someKey = Key{Instance: "default", Service: "demo-svc", Version: "1.0.0", ExeHash: "00"}
	willing = Inputs{Client: true, Service: true}
)

// failures counts those in the window of someKey.
func failures(p *Policy, now time.Time) int {
	n, _ := p.failures.Count(someKey, now)
	return min(n, p.maxFailed)
}

func decisionName(d Decision) string {
	if d.Attempt {
		return "Attempt"
	}
	return string(d.Reason)
}

func TestPolicyDecisionOrder(t *testing.T) {
	policy := NewPolicy(DefaultPolicyConfig())
	for _, v := range readPolicyVectors(t).Fallback.DecisionOrder {
		if v.Expect == "AdoptedBackend" {
			continue // a backend that outlives its broker registers with the next one, and is as good as any
		}
		in := Inputs{Client: v.Client, Service: v.Policy, FDPressure: v.FDPressure}
		if got := decisionName(policy.Decide(someKey, in, at(0))); got != v.Expect {
			t.Errorf("%+v: got %s, want %s", in, got, v.Expect)
		}
	}
}

func TestPolicyVectors(t *testing.T) {
	for _, scenario := range readPolicyVectors(t).Fallback.Scenarios {
		t.Run(scenario.Name, func(t *testing.T) {
			policy := NewPolicy(PolicyConfig{
				MaxFailed: scenario.MaxFailed, Window: millis(scenario.Window),
			})
			for i, step := range scenario.Steps {
				want, got := fmt.Sprint(step.Expect), ""
				switch step.Op {
				case "fail":
					got = string(policy.RecordFailure(someKey, Reason(step.Failure), at(step.At)))
				case "decide":
					decision := policy.Decide(someKey, willing, at(step.At))
					got = decisionName(decision)
					if decision.RetryAfter != millis(step.RetryAfter) {
						t.Errorf("step %d: retry after %s, want %d ms", i, decision.RetryAfter, step.RetryAfter)
					}
				case "count":
					got = fmt.Sprint(failures(policy, at(step.At)))
				case "success":
					policy.RecordSuccess(someKey)
					got = want
				default:
					t.Fatalf("unknown operation %q", step.Op)
				}
				if got != want {
					t.Errorf("step %d, %s at %d: got %s, want %s", i, step.Op, step.At, got, want)
				}
			}
		})
	}
}

func TestPolicyDefaultsAndClamps(t *testing.T) {
	v := readPolicyVectors(t).Fallback
	got := DefaultPolicyConfig()
	if got.MaxFailed != v.Defaults.MaxFailed || got.Window != millis(v.Defaults.Window) {
		t.Errorf("got %+v, want %+v", got, v.Defaults)
	}
	for _, clamp := range v.Clamps {
		config := DefaultPolicyConfig()
		limit, window := 1, config.Window
		config.MaxFailed = 1
		switch clamp.Field {
		case "max_failed":
			config.MaxFailed, limit = clamp.Given, clamp.Used
		case "window_ms":
			config.Window, window = millis(clamp.Given), millis(clamp.Used)
		default:
			t.Fatalf("unknown field %q", clamp.Field)
		}
		policy := NewPolicy(config)
		for range limit {
			policy.RecordFailure(someKey, PermissionDenied, at(0))
		}
		want := Decision{Reason: FailedAttemptRateLimited, RetryAfter: window}
		if got := policy.Decide(someKey, willing, at(0)); got != want {
			t.Errorf("%s: got %+v, want %+v", clamp.Field, got, want)
		}
	}
}

// TestPolicyWindowRestartsAtAccess: a window that is over starts again when it is
// looked at, not at the next failure.
func TestPolicyWindowRestartsAtAccess(t *testing.T) {
	policy := NewPolicy(PolicyConfig{MaxFailed: 1, Window: millis(100)})
	policy.RecordFailure(someKey, BackendAckTimeout, at(0))
	if !policy.Decide(someKey, willing, at(150)).Attempt {
		t.Fatal("still limited")
	}
	policy.RecordFailure(someKey, BackendAckTimeout, at(200))
	want := Decision{Reason: FailedAttemptRateLimited, RetryAfter: millis(1)}
	if got := policy.Decide(someKey, willing, at(249)); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if !policy.Decide(someKey, willing, at(250)).Attempt {
		t.Error("limited after the window")
	}
}

// TestPolicyClockSkew: a caller that read the clock before the failure was
// recorded waits no longer than a window.
func TestPolicyClockSkew(t *testing.T) {
	policy := NewPolicy(PolicyConfig{MaxFailed: 1, Window: millis(100)})
	policy.RecordFailure(someKey, BackendAckTimeout, at(10))
	if got := policy.Decide(someKey, willing, at(0)).RetryAfter; got != millis(100) {
		t.Errorf("retry after %s", got)
	}
}

func TestPolicyCountsOnlyFailures(t *testing.T) {
	for reason, want := range map[Reason]int{
		PermissionDenied:         1,
		IntegrityMismatch:        1,
		BackendAckTimeout:        1,
		ClientUnsupported:        0,
		ServicePolicyDisabled:    0,
		FdPressureDisabled:       0,
		FailedAttemptRateLimited: 0,
		TokenUnavailable:         0,
		ClaimUnavailable:         0,
	} {
		policy := NewPolicy(DefaultPolicyConfig())
		if got := policy.RecordFailure(someKey, reason, at(0)); got != reason {
			t.Errorf("%s became %s", reason, got)
		}
		if got := failures(policy, at(0)); got != want {
			t.Errorf("%s: counted %d, want %d", reason, got, want)
		}
	}
}

func TestPolicyKeepsBackendsApart(t *testing.T) {
	policy := NewPolicy(PolicyConfig{MaxFailed: 1, Window: millis(100)})
	policy.RecordFailure(someKey, BackendAckTimeout, at(0))
	for _, change := range []func(*Key){
		func(k *Key) { k.Instance = "other" },
		func(k *Key) { k.Service = "other" },
		func(k *Key) { k.Version = "other" },
		func(k *Key) { k.ExeHash = "other" },
	} {
		key := someKey
		change(&key)
		if !policy.Decide(key, willing, at(0)).Attempt {
			t.Errorf("%+v is limited by another backend", key)
		}
	}
}

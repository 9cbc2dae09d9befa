package handoff

import (
	"fmt"
	"testing"
	"time"
)

// TestPolicyForgetsWindowsThatAreOver adds a new backend that fails every
// millisecond: what is remembered follows the windows that are not over.
func TestPolicyForgetsWindowsThatAreOver(t *testing.T) {
	const live = 200
	policy := NewPolicy(PolicyConfig{MaxFailed: 1, Window: live * time.Millisecond})
	now := time.Unix(1_700_000_000, 0)
	for i := range 50 * live {
		now = now.Add(time.Millisecond)
		policy.RecordFailure(Key{Version: fmt.Sprint(i)}, BackendAckTimeout, now)
		if held := len(policy.windows); held > 2*live+policyRoom {
			t.Fatalf("%d windows are held, %d are not over", held, live)
		}
	}
	if got := policy.Decide(Key{Version: fmt.Sprint(50*live - 1)}, Inputs{Client: true, Service: true}, now); got.Attempt {
		t.Error("the newest failure was forgotten")
	}
}

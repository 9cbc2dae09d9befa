package handoff_test

import (
	"testing"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/testutil"
)

func TestRelinquishVectors(t *testing.T) {
	var v struct {
		Relinquish []struct {
			Stage          string `json:"stage"`
			BackendMay     bool   `json:"backend_may_adopt"`
			ExplicitReject bool   `json:"explicit_reject"`
			Relinquish     bool   `json:"relinquish"`
		} `json:"relinquish"`
	}
	testutil.Vectors(t, "behaviour.json", &v)
	if len(v.Relinquish) == 0 {
		t.Fatal("no vectors")
	}
	for _, c := range v.Relinquish {
		if got := handoff.Relinquish(handoff.Stage(c.Stage), c.BackendMay, c.ExplicitReject); got != c.Relinquish {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}

// TestRelinquishOwnStages covers what the vectors leave out. A stage nobody knows
// counts as one where the backend may own the connection.
func TestRelinquishOwnStages(t *testing.T) {
	for _, c := range []struct {
		stage              handoff.Stage
		mayAdopt, rejected bool
		want               bool
	}{
		{handoff.StageIssue, false, false, false},
		{handoff.StageSend, false, false, false},
		{handoff.StageSend, true, false, true},
		{handoff.StageAwaitAck, false, false, true},
		{handoff.Stage("?"), false, true, true},
	} {
		if got := handoff.Relinquish(c.stage, c.mayAdopt, c.rejected); got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}

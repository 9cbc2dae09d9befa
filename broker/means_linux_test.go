package broker_test

import (
	"encoding/json"
	"testing"

	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestStatusSaysWhatIsLacking: STATUS says by what means the broker works here, and names
// what it does without.
func TestStatusSaysWhatIsLacking(t *testing.T) {
	s := newSite(t, nil)
	var status struct {
		System struct {
			Processes, Claims string
			Without           []string
		}
	}
	reply := adminOf(t, s.Socket(), wire.AdminVerb_ADMIN_VERB_STATUS, nil)
	if err := json.Unmarshal([]byte(reply.Body), &status); err != nil {
		t.Fatal(err)
	}
	got := status.System
	if (len(got.Without) > 0) != testutil.Portable || testutil.Portable && (got.Processes != "pid and start time" || got.Claims != "pipe") {
		t.Errorf("got %+v", got)
	}
}

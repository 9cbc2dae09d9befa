package handoff_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/handoff"
)

func TestOutcomeInLogs(t *testing.T) {
	for _, c := range []struct {
		out  handoff.Outcome
		want string
	}{
		{handoff.Outcome{Verdict: handoff.Adopted, Stage: handoff.StageAcknowledge, FDReachedBackend: true, Waited: 3 * time.Millisecond},
			"outcome.verdict=adopted outcome.stage=Acknowledge outcome.fd_reached_backend=true outcome.waited=3ms"},
		{handoff.Outcome{Verdict: handoff.Unknown, Stage: handoff.StageAwaitAck, Reason: handoff.BackendAckTimeout, Late: true, Err: errors.New("why")},
			"outcome.verdict=unknown outcome.stage=AwaitAck outcome.fd_reached_backend=false outcome.reason=BackendAckTimeout outcome.late=true outcome.error=why"},
	} {
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("m", "outcome", c.out)
		if got := log.String(); !strings.Contains(got, c.want) {
			t.Errorf("logged %s, want %s", got, c.want)
		}
	}
}

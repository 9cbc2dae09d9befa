//go:build unix

package handoff_test

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/testutil"
)

type outcomeCase struct {
	name     string
	v1       bool // no claim travels
	fail     error
	backend  func(*flight) (handoff.Ack, error)
	newClaim func() (*handoff.Claim, error)

	verdict  handoff.Verdict
	stage    handoff.Stage
	reason   handoff.Reason
	unsent   bool // the backend can't have a descriptor
	rejected bool
	late     bool
	err      error
	after    time.Duration
}

const deadline = 5 * time.Second

var outcomeCases = []outcomeCase{
	{name: "ack", backend: take((*flight).ack), verdict: handoff.Adopted, stage: handoff.StageAcknowledge},
	{name: "nack, claim free", backend: (*flight).nack, verdict: handoff.NotTaken, stage: handoff.StageAwaitAck,
		reason: handoff.BackendAckTimeout, rejected: true, err: handoff.ErrRejected},
	{name: "nack, claim taken", backend: take((*flight).nack), verdict: handoff.Adopted, stage: handoff.StageAwaitAck,
		reason: handoff.BackendAckTimeout, rejected: true, late: true, err: handoff.ErrRejected},
	{name: "silence, claim free", backend: (*flight).silence, verdict: handoff.NotTaken, stage: handoff.StageAwaitAck,
		reason: handoff.BackendAckTimeout, err: handoff.ErrNoAck, after: deadline},
	{name: "silence, claim taken", backend: take((*flight).silence), verdict: handoff.Adopted, stage: handoff.StageAwaitAck,
		reason: handoff.BackendAckTimeout, late: true, err: handoff.ErrNoAck, after: deadline},
	{name: "gone, claim free", backend: gone, verdict: handoff.NotTaken, stage: handoff.StageAwaitAck,
		reason: handoff.BackendAckTimeout, err: handoff.ErrBackendGone},
	{name: "gone, claim taken", backend: take(gone), verdict: handoff.Adopted, stage: handoff.StageAwaitAck,
		reason: handoff.BackendAckTimeout, late: true, err: handoff.ErrBackendGone},
	{name: "silence, claim corrupt", backend: (*flight).silence, newClaim: corruptClaim, verdict: handoff.Unknown,
		stage: handoff.StageAwaitAck, reason: handoff.BackendAckTimeout, err: claim.ErrCorrupt, after: deadline},
	{name: "cancelled, claim free", backend: cancelled, verdict: handoff.NotTaken, stage: handoff.StageAwaitAck,
		reason: handoff.Cancelled, err: context.Canceled, after: time.Second},
	{name: "cancelled, claim taken", backend: take(cancelled), verdict: handoff.Adopted, stage: handoff.StageAwaitAck,
		reason: handoff.Cancelled, late: true, err: context.Canceled, after: time.Second},
	{name: "forged token, claim free", backend: forge, verdict: handoff.NotTaken, stage: handoff.StageAcknowledge,
		reason: handoff.BackendAckTimeout, err: handoff.ErrTokenMismatch},
	{name: "forged token, claim taken", backend: take(forge), verdict: handoff.Adopted, stage: handoff.StageAcknowledge,
		reason: handoff.BackendAckTimeout, late: true, err: handoff.ErrTokenMismatch},
	{name: "ack behind the sweep", backend: take(swept), verdict: handoff.Adopted, stage: handoff.StageAcknowledge,
		reason: handoff.BackendAckTimeout, late: true, err: handoff.ErrTokenNotPending},
	{name: "partial send, claim free", fail: partial(handoff.StageSend), verdict: handoff.NotTaken, stage: handoff.StageSend,
		reason: handoff.BackendAckTimeout},
	{name: "partial send, claim taken", fail: partial(handoff.StageSend), backend: take(gone), verdict: handoff.Adopted,
		stage: handoff.StageSend, reason: handoff.BackendAckTimeout, late: true},
	{name: "nothing sent", fail: sendError(handoff.StageSend, handoff.SendWouldBlock, 0), verdict: handoff.NotTaken,
		stage: handoff.StageSend, reason: handoff.BackendAckTimeout, unsent: true, err: syscall.EPIPE},
	{name: "not permitted", fail: sendError(handoff.StageSend, handoff.SendPermissionDenied, 0), verdict: handoff.NotTaken,
		stage: handoff.StageSend, reason: handoff.PermissionDenied, unsent: true},
	{name: "not supported", fail: sendError(handoff.StageSend, handoff.SendUnsupportedPlatform, 0), verdict: handoff.NotTaken,
		stage: handoff.StageSend, reason: handoff.ServicePolicyDisabled, unsent: true},
	{name: "error that says nothing, claim free", fail: errPlain, verdict: handoff.NotTaken, stage: handoff.StageSend,
		reason: handoff.BackendAckTimeout, err: errPlain},
	{name: "error that says nothing, claim taken", fail: errPlain, backend: take(gone), verdict: handoff.Adopted,
		stage: handoff.StageSend, reason: handoff.BackendAckTimeout, late: true, err: errPlain},

	{name: "v1 ack", v1: true, backend: (*flight).ack, verdict: handoff.Adopted, stage: handoff.StageAcknowledge},
	{name: "v1 rejection", v1: true, backend: (*flight).nack, verdict: handoff.NotTaken, stage: handoff.StageAwaitAck,
		reason: handoff.BackendAckTimeout, rejected: true, err: handoff.ErrRejected},
	{name: "v1 silence", v1: true, backend: (*flight).silence, verdict: handoff.Unknown, stage: handoff.StageAwaitAck,
		reason: handoff.BackendAckTimeout, err: handoff.ErrNoAck, after: deadline},
	{name: "v1 gone", v1: true, backend: gone, verdict: handoff.Unknown, stage: handoff.StageAwaitAck,
		reason: handoff.BackendAckTimeout, err: handoff.ErrBackendGone},
	{name: "v1 cancelled", v1: true, backend: cancelled, verdict: handoff.Unknown, stage: handoff.StageAwaitAck,
		reason: handoff.Cancelled, err: context.Canceled, after: time.Second},
	{name: "v1 forged token", v1: true, backend: forge, verdict: handoff.Unknown, stage: handoff.StageAcknowledge,
		reason: handoff.BackendAckTimeout, err: handoff.ErrTokenMismatch},
	{name: "v1 ack behind the sweep", v1: true, backend: swept, verdict: handoff.Adopted, stage: handoff.StageAcknowledge,
		reason: handoff.BackendAckTimeout, late: true, err: handoff.ErrTokenNotPending},
	{name: "v1 nothing transferred", v1: true, fail: sendError(handoff.StageTransfer, handoff.SendBackendUnavailable, 0),
		verdict: handoff.NotTaken, stage: handoff.StageTransfer, reason: handoff.BackendAckTimeout, unsent: true},
	{name: "v1 partial transfer", v1: true, fail: partial(handoff.StageTransfer), verdict: handoff.Unknown,
		stage: handoff.StageTransfer, reason: handoff.BackendAckTimeout},
	{name: "v1 offer failed", v1: true, fail: sendError(handoff.StageDeliver, handoff.SendPostTransferDeliveryFailed, handoff.TokenSize),
		verdict: handoff.Unknown, stage: handoff.StageDeliver, reason: handoff.BackendAckTimeout},
	{name: "v1 error that says nothing", v1: true, fail: errPlain, verdict: handoff.Unknown, stage: handoff.StageSend,
		reason: handoff.BackendAckTimeout, err: errPlain},
}

// TestOutcomes takes one attempt to every end. Whatever the end, nothing stays
// pending (behaviour.json unix_stages) and nothing stays open.
func TestOutcomes(t *testing.T) {
	for _, c := range outcomeCases {
		t.Run(c.name, func(t *testing.T) {
			testutil.Leaks(t)
			synctest.Test(t, func(t *testing.T) { runOutcome(t, c) })
		})
	}
}

func runOutcome(t *testing.T, c outcomeCase) {
	tokens := handoff.NewTokens(handoff.DefaultTokenConfig())
	acks := handoff.NewAcks(tokens, deadline)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	transport := &fakeTransport{
		claims: !c.v1, fail: c.fail, backend: c.backend,
		flight: &flight{tokens: tokens, acks: acks, cancel: cancel},
	}
	o := handoff.Orchestrator{Tokens: tokens, Acks: acks}
	began := time.Now()
	out := o.Handoff(ctx, handoff.Attempt{Transport: transport, NewClaim: c.newClaim})

	if out.Verdict != c.verdict || out.Stage != c.stage || out.Reason != c.reason {
		t.Errorf("ended %s at %s for %q; want %s at %s for %q", out.Verdict, out.Stage, out.Reason, c.verdict, c.stage, c.reason)
	}
	if out.FDReachedBackend == c.unsent || out.Rejected != c.rejected || out.Late != c.late {
		t.Errorf("reached %v, rejected %v, late %v; want %v, %v, %v",
			out.FDReachedBackend, out.Rejected, out.Late, !c.unsent, c.rejected, c.late)
	}
	if (c.reason == "") != (out.Err == nil) || c.err != nil && !errors.Is(out.Err, c.err) {
		t.Errorf("error %v, want %v", out.Err, c.err)
	}
	if after := time.Since(began); after != c.after {
		t.Errorf("ended after %v, want %v", after, c.after)
	}
	if sent := c.fail == nil; out.SentAt.IsZero() == sent || sent && !out.SentAt.Equal(began) {
		t.Errorf("sent at %v", out.SentAt)
	}
	if out.Relinquish() != (out.Verdict != handoff.NotTaken) {
		t.Error("Relinquish contradicts the verdict")
	}
	if want := handoff.Relinquish(out.Stage, out.FDReachedBackend, out.Rejected); c.v1 && out.Relinquish() != want {
		t.Errorf("relinquish %v, spec 02 §10 says %v", out.Relinquish(), want)
	}
	checkNothingLeft(t, tokens, acks, transport)
}

func checkNothingLeft(t *testing.T, tokens *handoff.Tokens, acks *handoff.Acks, transport *fakeTransport) {
	t.Helper()
	if tokens.Pending() != 0 || acks.Pending() != 0 || transport.open != 0 {
		t.Errorf("left pending: %d tokens, %d acknowledgements, %d deliveries", tokens.Pending(), acks.Pending(), transport.open)
	}
	if c := transport.flight.offer.Claim; c != nil && c.FD() >= 0 {
		t.Error("the claim is still open")
	}
}

// TestUnixStageVectors: the stages of the reference, at which an error ends both
// token and entry, are ends that TestOutcomes reaches.
func TestUnixStageVectors(t *testing.T) {
	var v struct {
		Stages []struct {
			Stage   string
			Token   string
			Entry   string `json:"ack_entry"`
			Reason  string
			Reached any `json:"fd_reached_backend"`
		} `json:"unix_stages"`
	}
	testutil.Vectors(t, "behaviour.json", &v)
	if len(v.Stages) == 0 {
		t.Fatal("no vectors")
	}
	for _, stage := range v.Stages {
		if stage.Token != "revoked" || stage.Entry != "removed" {
			t.Errorf("%s: this test does not know %q, %q", stage.Stage, stage.Token, stage.Entry)
		}
		tested := false
		for _, c := range outcomeCases {
			if string(c.stage) != stage.Stage || c.reason == "" || c.reason == handoff.Cancelled {
				continue
			}
			tested = true
			if reached, always := stage.Reached.(bool); always && (string(c.reason) != stage.Reason || c.unsent == reached) {
				t.Errorf("%s: reason %s, reached %v; want %s, %v", c.name, c.reason, !c.unsent, stage.Reason, reached)
			}
		}
		if !tested {
			t.Errorf("no outcome ends at %s", stage.Stage)
		}
	}
}

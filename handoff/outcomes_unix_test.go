//go:build unix

package handoff

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// outcomeCase is one end of an attempt: what became of the send, what the backend did,
// and what the broker learned of it.
type outcomeCase struct {
	name     string
	v1       bool  // no claim travels
	fail     error // of the send
	took     bool  // the backend took the claim
	ends     func(a *Attempt) Outcome
	newClaim func() (*claim.Claim, error)

	verdict  Verdict
	stage    Stage
	reason   Reason
	unsent   bool // the backend can't have a descriptor
	rejected bool
	late     bool
	err      error
}

func ack(a *Attempt) Outcome  { return a.Answered(Ack{Token: a.token[:], Accepted: true}, at(1)) }
func nack(a *Attempt) Outcome { return a.Answered(Ack{Token: a.token[:], Detail: "busy"}, at(1)) }

// closing is a backend that is about to go.
func closing(a *Attempt) Outcome {
	return a.Answered(Ack{Token: a.token[:], Leaving: true}, at(1))
}

func silence(a *Attempt) Outcome   { return a.Unanswered(ErrNoAck, a.Deadline()) }
func gone(a *Attempt) Outcome      { return a.Unanswered(ErrBackendGone, at(1)) }
func cancelled(a *Attempt) Outcome { return a.Unanswered(context.Canceled, at(1)) }

// forge is a backend that accepts with a token that is not the offer's, and forgeLate
// one that does so when the ACK is overdue.
func forge(a *Attempt) Outcome {
	return a.Answered(Ack{Token: make([]byte, TokenSize), Accepted: true}, at(1))
}

func forgeLate(a *Attempt) Outcome {
	return a.Answered(Ack{Token: make([]byte, TokenSize), Accepted: true}, a.Deadline())
}

// late is a backend whose ACK comes at its deadline, and swept one whose ACK comes after
// a full table has ended what was overdue.
func late(a *Attempt) Outcome {
	return a.Answered(Ack{Token: a.token[:], Accepted: true}, a.Deadline())
}

func swept(a *Attempt) Outcome {
	a.table.expire(a.Deadline())
	return late(a)
}

// corruptClaim holds a value that decides nothing.
func corruptClaim() (*claim.Claim, error) {
	var p [2]int
	if err := unix.Pipe(p[:]); err != nil {
		return nil, err
	}
	_, err := unix.Write(p[1], []byte("?"))
	_ = unix.Close(p[1])
	if err := errors.Join(err, unix.SetNonblock(p[0], true)); err != nil {
		return nil, err
	}
	return claim.Receive(sock.Own(p[0]))
}

func partial(stage Stage) error {
	err := PartialSend(3)
	err.Stage = stage
	return err
}

func sendError(stage Stage, class SendClass, sent int) error {
	return &SendError{Stage: stage, Class: class, Sent: sent, Err: syscall.EPIPE}
}

var errPlain = errors.New("not a SendError")

var errDeadline = new(AckDeadlineError) // any

var outcomeCases = []outcomeCase{
	{name: "ack", took: true, ends: ack, verdict: Adopted, stage: StageAcknowledge},
	{name: "nack, claim free", ends: nack, verdict: NotTaken, stage: StageAwaitAck,
		reason: BackendAckTimeout, rejected: true, err: ErrRejected},
	{name: "nack, claim taken", took: true, ends: nack, verdict: Adopted, stage: StageAwaitAck,
		reason: BackendAckTimeout, rejected: true, late: true, err: ErrRejected},
	{name: "silence, claim free", ends: silence, verdict: NotTaken, stage: StageAwaitAck,
		reason: BackendAckTimeout, err: ErrNoAck},
	{name: "silence, claim taken", took: true, ends: silence, verdict: Adopted, stage: StageAwaitAck,
		reason: BackendAckTimeout, late: true, err: ErrNoAck},
	{name: "gone, claim free", ends: gone, verdict: NotTaken, stage: StageAwaitAck,
		reason: BackendAckTimeout, err: ErrBackendGone},
	{name: "gone, claim taken", took: true, ends: gone, verdict: Adopted, stage: StageAwaitAck,
		reason: BackendAckTimeout, late: true, err: ErrBackendGone},
	{name: "silence, claim corrupt", ends: silence, newClaim: corruptClaim, verdict: Unknown,
		stage: StageAwaitAck, reason: BackendAckTimeout, err: claim.ErrCorrupt},
	{name: "cancelled, claim free", ends: cancelled, verdict: NotTaken, stage: StageAwaitAck,
		reason: Cancelled, err: context.Canceled},
	{name: "cancelled, claim taken", took: true, ends: cancelled, verdict: Adopted, stage: StageAwaitAck,
		reason: Cancelled, late: true, err: context.Canceled},
	{name: "forged token, claim free", ends: forge, verdict: NotTaken, stage: StageAcknowledge,
		reason: BackendAckTimeout, err: ErrTokenMismatch},
	{name: "forged token, claim taken", took: true, ends: forge, verdict: Adopted, stage: StageAcknowledge,
		reason: BackendAckTimeout, late: true, err: ErrTokenMismatch},
	{name: "ack behind the sweep", took: true, ends: swept, verdict: Adopted, stage: StageAcknowledge,
		reason: BackendAckTimeout, late: true, err: ErrTokenNotPending},
	{name: "ack at the deadline", took: true, ends: late, verdict: Adopted, stage: StageAcknowledge,
		reason: BackendAckTimeout, late: true, err: errDeadline},
	{name: "forged token at the deadline, claim free", ends: forgeLate, verdict: NotTaken, stage: StageAcknowledge,
		reason: BackendAckTimeout, err: errDeadline},
	{name: "nack of one about to go", ends: closing, verdict: NotTaken, stage: StageAwaitAck,
		reason: BackendAckTimeout, rejected: true, err: ErrBackendGone},
	{name: "partial send, claim free", fail: partial(StageSend), verdict: NotTaken, stage: StageSend,
		reason: BackendAckTimeout},
	{name: "partial send, claim taken", fail: partial(StageSend), took: true, verdict: Adopted,
		stage: StageSend, reason: BackendAckTimeout, late: true},
	{name: "nothing sent", fail: sendError(StageSend, SendWouldBlock, 0), verdict: NotTaken,
		stage: StageSend, reason: BackendAckTimeout, unsent: true, err: syscall.EPIPE},
	{name: "not permitted", fail: sendError(StageSend, SendPermissionDenied, 0), verdict: NotTaken,
		stage: StageSend, reason: PermissionDenied, unsent: true},
	{name: "not supported", fail: sendError(StageSend, SendUnsupportedPlatform, 0), verdict: NotTaken,
		stage: StageSend, reason: ServicePolicyDisabled, unsent: true},
	{name: "error that says nothing, claim free", fail: errPlain, verdict: NotTaken, stage: StageSend,
		reason: BackendAckTimeout, err: errPlain},
	{name: "error that says nothing, claim taken", fail: errPlain, took: true, verdict: Adopted,
		stage: StageSend, reason: BackendAckTimeout, late: true, err: errPlain},

	{name: "v1 ack", v1: true, ends: ack, verdict: Adopted, stage: StageAcknowledge},
	{name: "v1 rejection", v1: true, ends: nack, verdict: NotTaken, stage: StageAwaitAck,
		reason: BackendAckTimeout, rejected: true, err: ErrRejected},
	{name: "v1 silence", v1: true, ends: silence, verdict: Unknown, stage: StageAwaitAck,
		reason: BackendAckTimeout, err: ErrNoAck},
	{name: "v1 gone", v1: true, ends: gone, verdict: Unknown, stage: StageAwaitAck,
		reason: BackendAckTimeout, err: ErrBackendGone},
	{name: "v1 cancelled", v1: true, ends: cancelled, verdict: Unknown, stage: StageAwaitAck,
		reason: Cancelled, err: context.Canceled},
	{name: "v1 forged token", v1: true, ends: forge, verdict: Unknown, stage: StageAcknowledge,
		reason: BackendAckTimeout, err: ErrTokenMismatch},
	{name: "v1 ack behind the sweep", v1: true, ends: swept, verdict: Adopted, stage: StageAcknowledge,
		reason: BackendAckTimeout, late: true, err: ErrTokenNotPending},
	{name: "v1 ack at the deadline", v1: true, ends: late, verdict: Adopted, stage: StageAcknowledge,
		reason: BackendAckTimeout, late: true, err: errDeadline},
	{name: "v1 forged token at the deadline", v1: true, ends: forgeLate, verdict: Unknown, stage: StageAcknowledge,
		reason: BackendAckTimeout, err: errDeadline},
	{name: "v1 nothing transferred", v1: true, fail: sendError(StageTransfer, SendBackendUnavailable, 0),
		verdict: NotTaken, stage: StageTransfer, reason: BackendAckTimeout, unsent: true},
	{name: "v1 partial transfer", v1: true, fail: partial(StageTransfer), verdict: Unknown,
		stage: StageTransfer, reason: BackendAckTimeout},
	{name: "v1 offer failed", v1: true, fail: sendError(StageDeliver, SendPostTransferDeliveryFailed, TokenSize),
		verdict: Unknown, stage: StageDeliver, reason: BackendAckTimeout},
	{name: "v1 error that says nothing", v1: true, fail: errPlain, verdict: Unknown, stage: StageSend,
		reason: BackendAckTimeout, err: errPlain},
}

// TestOutcomes takes one attempt to every end. Whatever the end, it is pending no more
// (behaviour.json unix_stages), its number finds nobody, and its claim is open until
// Close.
func TestOutcomes(t *testing.T) {
	for _, c := range outcomeCases {
		t.Run(c.name, func(t *testing.T) {
			testutil.Leaks(t)
			runOutcome(t, c)
		})
	}
}

func runOutcome(t *testing.T, c outcomeCase) {
	table := NewTable(DefaultConfig())
	a := begin(t, table, c)
	defer a.Close()
	out := finish(t, a, c)
	if out.Verdict != c.verdict || out.Stage != c.stage || out.Reason != c.reason {
		t.Errorf("ended %s at %s for %q; want %s at %s for %q", out.Verdict, out.Stage, out.Reason, c.verdict, c.stage, c.reason)
	}
	if out.FDReachedBackend == c.unsent || out.Rejected != c.rejected || out.Late != c.late {
		t.Errorf("reached %v, rejected %v, late %v; want %v, %v, %v",
			out.FDReachedBackend, out.Rejected, out.Late, !c.unsent, c.rejected, c.late)
	}
	switch {
	case c.err == errDeadline:
		if !errors.As(out.Err, new(*AckDeadlineError)) {
			t.Errorf("error %v", out.Err)
		}
	case (c.reason == "") != (out.Err == nil), c.err != nil && !errors.Is(out.Err, c.err):
		t.Errorf("error %v, want %v", out.Err, c.err)
	}
	if sent := c.fail == nil; out.SentAt.IsZero() == sent || sent && !out.SentAt.Equal(at(0)) {
		t.Errorf("sent at %v", out.SentAt)
	}
	if out.Relinquish() != (out.Verdict != NotTaken) {
		t.Error("Relinquish contradicts the verdict")
	}
	if found, _ := table.Whose(a.number, a.channel); table.Pending() != 0 || found != nil {
		t.Errorf("%d are pending; its number finds it: %v", table.Pending(), found != nil)
	}
	if c.v1 {
		return
	}
	if sock.Number(a.claim.(*claim.Claim).Descriptor()) < 0 {
		t.Error("the claim was closed before Close")
	}
	if a.Close(); sock.Number(a.claim.(*claim.Claim).Descriptor()) >= 0 {
		t.Error("the claim is still open")
	}
}

// begin issues an attempt.
func begin(t *testing.T, table *Table, c outcomeCase) *Attempt {
	t.Helper()
	a := new(Attempt)
	if err := table.Issue(a, DefaultAckDeadline, at(0)); err != nil {
		t.Fatal(err)
	}
	if c.v1 {
		return a
	}
	newClaim := claim.New
	if c.newClaim != nil {
		newClaim = c.newClaim
	}
	var err error
	if a.claim, err = newClaim(); err != nil {
		t.Fatal(err)
	}
	return a
}

// finish does what the backend does, and ends the attempt.
func finish(t *testing.T, a *Attempt, c outcomeCase) Outcome {
	t.Helper()
	if c.took {
		if won, err := a.claim.Take(); !won || err != nil {
			t.Fatalf("the backend took %v, %v", won, err)
		}
	}
	if c.fail != nil {
		return a.SendFailed(c.fail)
	}
	a.Sent(at(0))
	return c.ends(a)
}

// TestFailpoints are passed in the order of the flow, and the claim is won back before
// anything else is done.
func TestFailpoints(t *testing.T) {
	testutil.Leaks(t)
	for _, c := range []struct {
		outcomeCase
		want []failpoint.Point
	}{
		{outcomeCase{took: true, ends: ack}, []failpoint.Point{failpoint.BrokerAcked}},
		{outcomeCase{ends: nack}, []failpoint.Point{failpoint.BrokerRevoked}},
		{outcomeCase{took: true, ends: gone}, nil},
	} {
		var hits []failpoint.Point
		a := begin(t, NewTable(DefaultConfig()), c.outcomeCase)
		failpoint.Set(func(p failpoint.Point) { hits = append(hits, p) })
		finish(t, a, c.outcomeCase)
		failpoint.Set(nil)
		a.Close()
		if !slices.Equal(hits, c.want) {
			t.Errorf("passed %v, want %v", hits, c.want)
		}
	}
}

// TestNotSent: an attempt of which nothing was sent ends where it was, and the
// connection is the broker's.
func TestNotSent(t *testing.T) {
	testutil.Leaks(t)
	table := NewTable(Config{MaxPending: 1})
	a := begin(t, table, outcomeCase{})
	defer a.Close()
	var second Attempt
	err := table.Issue(&second, DefaultAckDeadline, at(0))
	if out, want := second.NotSent(StageIssue, TokenUnavailable, err), (Outcome{
		Verdict: NotTaken, Stage: StageIssue, Reason: TokenUnavailable, Err: err,
	}); out != want || err == nil {
		t.Errorf("got %+v, want %+v", out, want)
	}
	if second.Close(); table.Pending() != 1 {
		t.Error("another attempt was ended")
	}
	if out := a.NotSent(StageSend, Cancelled, context.Canceled); out.Verdict != NotTaken || out.FDReachedBackend || out.Relinquish() {
		t.Errorf("got %+v", out)
	}
	if table.Pending() != 0 {
		t.Error("it is still pending")
	}
}

// TestEndedOnce: whatever comes after the end changes nothing, and an ACK is no use.
func TestEndedOnce(t *testing.T) {
	testutil.Leaks(t)
	table := NewTable(DefaultConfig())
	a, other := begin(t, table, outcomeCase{}), begin(t, table, outcomeCase{})
	defer other.Close()
	defer a.Close()
	if out := silence(a); out.Verdict != NotTaken {
		t.Fatalf("%+v", out)
	}
	if out := ack(a); !out.Late || !errors.Is(out.Err, ErrTokenNotPending) {
		t.Errorf("an ACK after the end: %+v", out)
	}
	a.Close()
	a.Close()
	if found, _ := table.Whose(other.number, nil); found != other || table.Pending() != 1 {
		t.Error("another attempt was ended with it")
	}
}

// TestRelinquishVectors: without a claim, the verdict says what spec 02 §10 does.
func TestRelinquishVectors(t *testing.T) {
	var v struct {
		Relinquish []struct {
			Stage          Stage `json:"stage"`
			BackendMay     bool  `json:"backend_may_adopt"`
			ExplicitReject bool  `json:"explicit_reject"`
			Relinquish     bool  `json:"relinquish"`
		} `json:"relinquish"`
	}
	testutil.Vectors(t, "behaviour.json", &v)
	if len(v.Relinquish) == 0 {
		t.Fatal("no vectors")
	}
	for _, c := range v.Relinquish {
		a := begin(t, NewTable(DefaultConfig()), outcomeCase{v1: true})
		sent := 0
		if c.BackendMay {
			sent = 1
		}
		var out Outcome
		switch c.Stage {
		case StageTransfer, StageDeliver:
			out = a.SendFailed(sendError(c.Stage, SendFailed, sent))
		case StageAwaitAck:
			if out = silence(a); c.ExplicitReject {
				out = nack(begin(t, NewTable(DefaultConfig()), outcomeCase{v1: true}))
			}
		case StageAcknowledge:
			out = late(a)
		}
		if out.Stage != c.Stage || out.Relinquish() != c.Relinquish {
			t.Errorf("%+v: %v at %s", c, out.Relinquish(), out.Stage)
		}
	}
}

// TestUnknownHandle: what the backend has and was not told of it can't use, and it is reported.
func TestUnknownHandle(t *testing.T) {
	a := begin(t, NewTable(DefaultConfig()), outcomeCase{v1: true})
	left := &SendError{Stage: StageDeliver, Class: SendPostTransferDeliveryFailed, Left: 0x2f4, Err: sock.ErrLeftBehind}
	out := a.SendFailed(left)
	if out.Verdict != NotTaken || out.Relinquish() || !out.FDReachedBackend || out.LeakedBackendHandle != 0x2f4 || out.Reason != BackendAckTimeout {
		t.Errorf("got %+v", out)
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
			if string(c.stage) != stage.Stage || c.reason == "" || c.reason == Cancelled {
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

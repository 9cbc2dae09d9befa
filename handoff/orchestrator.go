package handoff

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/failpoint"
)

// Orchestrator takes one connection through its handoff, in this order:
//
//	Issue        step 4, issue: token, acknowledgement deadline, claim
//	Send         offer + connection + claim in one message
//	AwaitAck     ACK, NACK, the backend's death, or the deadline
//	Acknowledge  the registry's word on the ACK
//	(settle)     whatever else happened, the claim decides
//
// The zero value is not usable; Tokens and Acks must be set. One Orchestrator
// serves any number of attempts at once.
type Orchestrator struct {
	Tokens *Tokens
	Acks   *Acks
	// Clock is time.Now unless a test replaces it. It must be monotonic.
	Clock func() time.Time
	// NewClaim is claim.New unless a test replaces it.
	NewClaim func() (*Claim, error)
	// AwaitAck waits for a delivery's answer; Delivery.AwaitAck unless a test
	// replaces it. The context ends at the acknowledgement deadline.
	AwaitAck func(context.Context, Delivery) (Ack, error)
}

// Attempt is one connection to be handed to one backend.
type Attempt struct {
	// Conn is borrowed for the whole attempt.
	Conn      syscall.RawConn
	Backend   Backend
	Transport Transport
	// Offer says what the backend is told; Token and Claim are filled in here.
	Offer Offer
	// Preamble builds the backend's first bytes for the token; nil for none.
	Preamble func(Token) ([]byte, error)
	// Token is the one to use instead of a new one: on the v1 exchange the client
	// has been told it already. It must be pending.
	Token *Token
}

// Handoff makes the attempt and returns its outcome: at the latest when the
// transport's Send has returned and the acknowledgement deadline has passed since.
// When ctx has ended before, nothing is sent; when it ends later, the claim decides
// at once.
func (o *Orchestrator) Handoff(ctx context.Context, a Attempt) Outcome {
	f := &flight{Orchestrator: o, Attempt: a}
	out := f.run(ctx)
	out.SentAt = f.sentAt
	return out
}

// flight is one attempt under way. It owns the claim.
type flight struct {
	*Orchestrator
	Attempt
	token  Token
	claim  *claim.Claim
	sentAt time.Time
}

func (f *flight) run(ctx context.Context) Outcome {
	if out := f.issueToken(); out != nil {
		return *out
	}
	defer f.release()
	if out := f.makeClaim(); out != nil {
		return *out
	}
	failpoint.Hit(failpoint.BrokerIssued)
	delivery, out := f.send(ctx)
	if out != nil {
		return *out
	}
	defer delivery.Close()
	f.sentAt = f.now()
	failpoint.Hit(failpoint.BrokerSent)
	ack, out := f.awaitAck(ctx, delivery)
	if out != nil {
		return *out
	}
	failpoint.Hit(failpoint.BrokerAcked)
	return f.acknowledge(ack)
}

func (f *flight) now() time.Time {
	if f.Clock != nil {
		return f.Clock()
	}
	return time.Now()
}

func (f *flight) issueToken() *Outcome {
	now := f.now()
	if f.Attempt.Token != nil {
		f.token = *f.Attempt.Token
	} else {
		token, err := f.Tokens.Issue(now)
		if err != nil {
			return &Outcome{Verdict: NotTaken, Stage: StageIssue, Reason: TokenUnavailable, Err: err}
		}
		f.token = token
	}
	f.Acks.Register(f.token, f.Backend, now)
	return nil
}

func (f *flight) makeClaim() *Outcome {
	if !f.Transport.Claims() {
		return nil
	}
	newClaim := f.NewClaim
	if newClaim == nil {
		newClaim = claim.New
	}
	c, err := newClaim()
	if err != nil {
		return &Outcome{Verdict: NotTaken, Stage: StageIssue, Reason: ClaimUnavailable, Err: err}
	}
	f.claim = c
	return nil
}

func (f *flight) send(ctx context.Context) (Delivery, *Outcome) {
	offer := f.Offer
	offer.Token, offer.Claim = f.token, f.claim
	if f.Preamble != nil {
		preamble, err := f.Preamble(f.token)
		if err != nil {
			return nil, &Outcome{Verdict: NotTaken, Stage: StageSend, Reason: ServicePolicyDisabled, Err: err}
		}
		offer.Preamble = preamble
	}
	if err := context.Cause(ctx); err != nil {
		return nil, &Outcome{Verdict: NotTaken, Stage: StageSend, Reason: Cancelled, Err: err}
	}
	delivery, err := f.Transport.Send(ctx, offer, f.Conn)
	if err == nil {
		return delivery, nil
	}
	out := Outcome{Verdict: NotTaken, Stage: StageSend, Reason: BackendAckTimeout, FDReachedBackend: true, Err: err}
	var send *SendError
	if errors.As(err, &send) {
		out.Stage, out.Reason, out.FDReachedBackend = send.Stage, send.Reason(), send.Reached()
	}
	if out.FDReachedBackend {
		out = f.settle(out)
	}
	return nil, &out
}

func (f *flight) awaitAck(parent context.Context, d Delivery) (Ack, *Outcome) {
	ctx, cancel := context.WithTimeoutCause(parent, f.Acks.Deadline(), ErrNoAck)
	defer cancel()
	wait := f.AwaitAck
	if wait == nil {
		wait = func(ctx context.Context, d Delivery) (Ack, error) { return d.AwaitAck(ctx) }
	}
	ack, err := wait(ctx, d)
	switch {
	case err == nil && !ack.Accepted:
		cause := ErrRejected
		if ack.Leaving {
			cause = ErrBackendGone
		}
		out := f.settle(Outcome{
			Stage: StageAwaitAck, Reason: BackendAckTimeout, FDReachedBackend: true, Rejected: true,
			Err: fmt.Errorf("%w: %s", cause, ack.Detail),
		})
		return ack, &out
	case err != nil:
		if cause := context.Cause(ctx); cause != nil && errors.Is(err, ctx.Err()) {
			err = cause
		}
		reason := BackendAckTimeout
		if parent.Err() != nil {
			reason = Cancelled
		}
		out := f.settle(Outcome{Stage: StageAwaitAck, Reason: reason, FDReachedBackend: true, Err: err})
		return ack, &out
	}
	return ack, nil
}

// acknowledge lets the registry judge an ACK. The backend says that it has
// adopted; what the registry adds is only whether that came in time.
func (f *flight) acknowledge(ack Ack) Outcome {
	out := Outcome{Verdict: Adopted, Stage: StageAcknowledge, FDReachedBackend: true}
	now := f.now()
	if err := f.Tokens.Consume(f.token, ack.Token, now); err != nil {
		out.Reason, out.Err = BackendAckTimeout, err
		if f.claim == nil && f.token.Equal(ack.Token) {
			// The token had ended before its ACK came. A v1 backend has adopted all
			// the same, and its client waits for the ready event (spec 02 §9).
			out.Late = true
			return out
		}
		return f.settle(out)
	}
	acked, err := f.Acks.Acknowledge(f.token, now)
	out.Waited = acked.Waited
	if err != nil {
		out.Reason, out.Late, out.Err = BackendAckTimeout, true, err
	}
	return out
}

// settle decides an attempt that has no ACK in time: the claim knows who owns
// the connection. Without a claim only an explicit rejection proves that the
// broker still does.
func (f *flight) settle(out Outcome) Outcome {
	if f.claim == nil {
		out.Verdict = Unknown
		if out.Rejected {
			out.Verdict = NotTaken
		}
		return out
	}
	won, err := f.claim.Take()
	switch {
	case err != nil:
		out.Verdict, out.Err = Unknown, errors.Join(out.Err, err)
	case won:
		out.Verdict = NotTaken
		failpoint.Hit(failpoint.BrokerRevoked)
	default:
		out.Verdict, out.Late = Adopted, true
	}
	return out
}

// release takes back what the attempt still has pending.
func (f *flight) release() {
	f.Acks.Abandon(f.token) // revokes the token as well, whatever became of it
	if f.claim != nil {
		f.claim.Close()
	}
}

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
	// NewClaim makes the claim; nil for claim.New. Claims in a page (Channel.NewClaim)
	// are for those who look at Flight.Acknowledged.
	NewClaim func() (*Claim, error)
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
	var delivery Delivery
	f, out := o.Begin(ctx, a, func(f *Flight) (err error) {
		delivery, err = a.Transport.Send(ctx, f.Offer, a.Conn)
		return err
	})
	if f == nil {
		return out
	}
	defer f.Close()
	defer delivery.Close()
	waitCtx, cancel := context.WithTimeoutCause(ctx, o.Acks.Deadline(), ErrNoAck)
	defer cancel()
	ack, err := o.awaitAck(waitCtx, delivery)
	if err == nil {
		return f.Answered(ack)
	}
	if cause := context.Cause(waitCtx); cause != nil && errors.Is(err, waitCtx.Err()) {
		err = cause
	}
	return f.Unanswered(err, ctx.Err() != nil)
}

func (o *Orchestrator) awaitAck(ctx context.Context, d Delivery) (Ack, error) {
	if o.AwaitAck != nil {
		return o.AwaitAck(ctx, d)
	}
	return d.AwaitAck(ctx)
}

// Begin issues token and claim and calls send, which sends f.Offer with the
// connection; its error is a *SendError. The Flight that Begin returns is then
// ended by one call of Answered or Unanswered, and closed by the caller. When nothing
// was sent, or the failure of send is settled already, it is nil, and the outcome
// final.
//
// Handoff is Begin and the wait for an answer; who has an event loop waits there.
func (o *Orchestrator) Begin(ctx context.Context, a Attempt, send func(f *Flight) error) (*Flight, Outcome) {
	f := &Flight{Attempt: a, orchestrator: o}
	if out := f.issue(); out != nil {
		return nil, *out
	}
	out := f.prepare(ctx)
	if out == nil {
		failpoint.Hit(failpoint.BrokerIssued)
		out = f.send(send)
	}
	if out != nil {
		defer f.Close()
		return nil, f.end(*out)
	}
	f.sentAt = f.now()
	failpoint.Hit(failpoint.BrokerSent)
	return f, Outcome{}
}

// Flight is one attempt under way: its message has been sent and not been
// answered. It owns the claim, until Close. It is used by one goroutine at a time.
type Flight struct {
	Attempt
	orchestrator *Orchestrator
	token        Token
	claim        *claim.Claim
	sentAt       time.Time
}

// Token returns the token of this attempt.
func (f *Flight) Token() Token { return f.token }

// Answered ends the flight with the backend's ACK or NACK.
func (f *Flight) Answered(ack Ack) Outcome {
	if ack.Accepted {
		failpoint.Hit(failpoint.BrokerAcked)
		return f.end(f.acknowledge(ack))
	}
	cause := ErrRejected
	if ack.Leaving {
		cause = ErrBackendGone
	}
	return f.end(f.settle(Outcome{
		Stage: StageAwaitAck, Reason: BackendAckTimeout, FDReachedBackend: true, Rejected: true,
		Err: fmt.Errorf("%w: %s", cause, ack.Detail),
	}))
}

// Acknowledged reports whether the backend's ACK stands in the page that the claim
// is in. No message comes then: the caller looks now and then, and ends the flight
// with Adopted. It is good until Close: an ended flight may still be acknowledged.
func (f *Flight) Acknowledged() bool { return f.claim != nil && f.claim.Acknowledged() }

// AcksInPage reports whether an acknowledgement stands in the page from the moment on
// at which it is given. One that is a message may never come: a full channel takes none.
func (f *Flight) AcksInPage() bool {
	if f.claim == nil {
		return false
	}
	_, _, inPage := f.claim.InPage()
	return inPage
}

// Adopted ends a flight that is Acknowledged.
func (f *Flight) Adopted() Outcome { return f.Answered(Ack{Token: f.token[:], Accepted: true}) }

// Unanswered ends the flight without an answer: err is ErrNoAck, ErrBackendGone,
// or why the caller no longer waits, which cancelled says. An ACK that stands in
// the page, and that nobody has seen yet, is an answer.
func (f *Flight) Unanswered(err error, cancelled bool) Outcome {
	if f.Acknowledged() {
		return f.Adopted()
	}
	reason := BackendAckTimeout
	if cancelled {
		reason = Cancelled
	}
	return f.end(f.settle(Outcome{Stage: StageAwaitAck, Reason: reason, FDReachedBackend: true, Err: err}))
}

// Close closes the claim: an ACK that comes later finds nobody. It may be called
// again.
func (f *Flight) Close() {
	if f.claim != nil {
		f.claim.Close()
	}
}

// end takes back what the attempt still has pending.
func (f *Flight) end(out Outcome) Outcome {
	f.orchestrator.Acks.Abandon(f.token) // revokes the token as well, whatever became of it
	out.SentAt = f.sentAt
	return out
}

func (f *Flight) now() time.Time {
	if clock := f.orchestrator.Clock; clock != nil {
		return clock()
	}
	return time.Now()
}

func (f *Flight) issue() *Outcome {
	now := f.now()
	if f.Attempt.Token != nil {
		f.token = *f.Attempt.Token
	} else {
		token, err := f.orchestrator.Tokens.Issue(now)
		if err != nil {
			return &Outcome{Verdict: NotTaken, Stage: StageIssue, Reason: TokenUnavailable, Err: err}
		}
		f.token = token
	}
	f.orchestrator.Acks.Register(f.token, f.Backend, now)
	return nil
}

// prepare completes the offer: claim and preamble.
func (f *Flight) prepare(ctx context.Context) *Outcome {
	if f.Transport.Claims() {
		newClaim := f.NewClaim
		if newClaim == nil {
			newClaim = claim.New
		}
		c, err := newClaim()
		if err != nil {
			return &Outcome{Verdict: NotTaken, Stage: StageIssue, Reason: ClaimUnavailable, Err: err}
		}
		f.claim = c
	}
	f.Offer.Token, f.Offer.Claim = f.token, f.claim
	if f.Preamble != nil {
		preamble, err := f.Preamble(f.token)
		if err != nil {
			return &Outcome{Verdict: NotTaken, Stage: StageSend, Reason: ServicePolicyDisabled, Err: err}
		}
		f.Offer.Preamble = preamble
	}
	if err := context.Cause(ctx); err != nil {
		return &Outcome{Verdict: NotTaken, Stage: StageSend, Reason: Cancelled, Err: err}
	}
	return nil
}

func (f *Flight) send(send func(*Flight) error) *Outcome {
	err := send(f)
	if err == nil {
		return nil
	}
	out := Outcome{Verdict: NotTaken, Stage: StageSend, Reason: BackendAckTimeout, FDReachedBackend: true, Err: err}
	var failed *SendError
	if errors.As(err, &failed) {
		out.Stage, out.Reason, out.FDReachedBackend = failed.Stage, failed.Reason(), failed.Reached()
	}
	if out.FDReachedBackend {
		out = f.settle(out)
	}
	return &out
}

// acknowledge lets the registry judge an ACK. The backend says that it has
// adopted; what the registry adds is only whether that came in time.
func (f *Flight) acknowledge(ack Ack) Outcome {
	out := Outcome{Verdict: Adopted, Stage: StageAcknowledge, FDReachedBackend: true}
	now := f.now()
	if err := f.orchestrator.Tokens.Consume(f.token, ack.Token, now); err != nil {
		out.Reason, out.Err = BackendAckTimeout, err
		if f.claim == nil && f.token.Equal(ack.Token) {
			// The token had ended before its ACK came. A v1 backend has adopted all
			// the same, and its client waits for the ready event (spec 02 §9).
			out.Late = true
			return out
		}
		return f.settle(out)
	}
	acked, err := f.orchestrator.Acks.Acknowledge(f.token, now)
	out.Waited = acked.Waited
	if err != nil {
		out.Reason, out.Late, out.Err = BackendAckTimeout, true, err
	}
	return out
}

// settle decides an attempt that has no ACK in time: the claim knows who owns
// the connection. Without a claim only an explicit rejection proves that the
// broker still does.
func (f *Flight) settle(out Outcome) Outcome {
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

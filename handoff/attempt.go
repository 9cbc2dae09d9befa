package handoff

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/seed-7265657e/usher/internal/failpoint"
)

// Attempt is the one record of a connection that is being handed to one backend. The
// caller takes it through these steps, each of which is one call:
//
//	issue        Table.Issue: number, token, acknowledgement deadline; Bind, with its claim
//	send         by a transport; Sent
//	await        Table.Whose an answer is, Table.Acknowledged, the deadline, or the channel's end
//	acknowledge  Answered, Acked
//	settle       NotSent, SendFailed, Unanswered: without an ACK the claim decides
//
// What ends an attempt returns its outcome, and takes it out of the table; the claim stays
// open until Close.
//
// It belongs to the goroutine that its table belongs to. Once it has ended,
// Acknowledged and Close may be called on another one.
type Attempt struct {
	table  *Table // nil unless pending
	number uint64 // names its slot, and how often that was used
	place  int    // in table.pending
	token  Token
	life   time.Duration
	issued time.Time

	sentAt  time.Time
	claim   Claim // nil in a v1 exchange
	channel any   // the one that an answer must come on; nil in a v1 exchange

	// Of the caller, who sets them before Issue.
	Backend Backend
	Owner   any // what the attempt is part of
}

// Claim is the broker's side of the object that decides who owns a connection in flight:
// whoever takes it, and it can be taken once, in whatever process.
type Claim interface {
	// Take takes the claim if nobody has. It never blocks. After an error nobody knows
	// who owns the connection.
	Take() (won bool, err error)
	// Acknowledged reports whether the backend has acknowledged in the claim itself.
	Acknowledged() bool
	// InPage says where in a page of memory that backend and broker share the claim is;
	// ok is false where it isn't in one, and can't be acknowledged in.
	InPage() (word uint32, generation uint64, ok bool)
	// Close ends this side of it. It may be called again.
	Close()
}

// Backend is whom a handoff is offered to.
type Backend struct {
	Service string
	PID     int // 0 = unknown
}

func (b Backend) String() string {
	if b.PID == 0 {
		return b.Service
	}
	return fmt.Sprintf("%s (pid %d)", b.Service, b.PID)
}

// Offer is one handoff as a backend sees it, beside the token and the claim.
type Offer struct {
	Service      string
	ConnectionID uint64
	// Preamble is what the backend writes first on the connection, verbatim,
	// once it holds the claim. Empty on the v1 exchange, where the broker
	// itself talks to the client.
	Preamble []byte
	// EarlyDataLen is how many bytes the client says it sent behind Hello.
	EarlyDataLen uint32
	Traceparent  string
	Tracestate   string
}

// Ack is a backend's answer to an offer.
type Ack struct {
	Token    []byte // as the backend presented it
	Accepted bool
	Detail   string // why not, for the log
	Leaving  bool   // not accepted because the backend is about to go
}

var (
	// ErrBackendGone says that the connection to the backend ended before it
	// answered.
	ErrBackendGone = errors.New("backend is gone")
	// ErrNoAck says that the backend did not answer before the deadline.
	ErrNoAck = errors.New("no acknowledgement before the deadline")
	// ErrRejected says that the backend answered with a NACK.
	ErrRejected = errors.New("backend rejected the handoff")
)

// AckDeadlineError reports an acknowledgement that came at its deadline or later.
type AckDeadlineError struct {
	Backend  Backend
	Deadline time.Time
}

func (e *AckDeadlineError) Error() string {
	return fmt.Sprintf("backend %s acknowledged the handoff after its deadline of %s; look whether it is overloaded or stopped",
		e.Backend, e.Deadline.Format(time.RFC3339Nano))
}

// Bind is the second half of step 5, issue: it names the channel that an answer must come
// on, which is compared alone, and gives the attempt its claim, which it owns.
func (a *Attempt) Bind(channel any, c Claim) { a.channel, a.claim = channel, c }

// Claim returns the claim, which stays the attempt's; nil before Bind, and in a v1 exchange.
func (a *Attempt) Claim() Claim { return a.claim }

// Token returns the token of this attempt.
func (a *Attempt) Token() Token { return a.token }

// TokenBytes are those of Token, for a message alone: they are the attempt's, and nothing
// keeps them out of a log.
func (a *Attempt) TokenBytes() []byte { return a.token[:] }

// Number names the attempt among all those of its table, those that have ended included.
func (a *Attempt) Number() uint64 { return a.number }

// Deadline is when the acknowledgement is due.
func (a *Attempt) Deadline() time.Time { return a.issued.Add(a.life) }

// Sent notes when the message had left.
func (a *Attempt) Sent(at time.Time) { a.sentAt = at }

// NotSent ends an attempt of which nothing was sent.
func (a *Attempt) NotSent(stage Stage, reason Reason, err error) Outcome {
	return a.end(Outcome{Verdict: NotTaken, Stage: stage, Reason: reason, Err: err})
}

// SendFailed ends an attempt with the error of its send. One that is no *SendError
// says nothing: the descriptor may be in the backend.
func (a *Attempt) SendFailed(err error) Outcome {
	out := Outcome{Verdict: NotTaken, Stage: StageSend, Reason: BackendAckTimeout, FDReachedBackend: true, Err: err}
	var failed *SendError
	if errors.As(err, &failed) {
		out.Stage, out.Reason, out.FDReachedBackend = failed.Stage, failed.Reason(), failed.Reached()
		out.LeakedBackendHandle = failed.Left
	}
	if out.FDReachedBackend && out.LeakedBackendHandle == 0 { // a handle that it does not know of, it can't use
		out = a.settle(out)
	}
	return a.end(out)
}

// Answered ends the attempt with the backend's ACK or NACK, which was observed at
// now.
func (a *Attempt) Answered(ack Ack, now time.Time) Outcome {
	if ack.Accepted {
		failpoint.Hit(failpoint.BrokerAcked)
		return a.end(a.acknowledged(ack.Token, now))
	}
	cause := ErrRejected
	if ack.Leaving {
		cause = ErrBackendGone
	}
	a.finish(true)
	return a.end(a.settle(Outcome{
		Stage: StageAwaitAck, Reason: BackendAckTimeout, FDReachedBackend: true, Rejected: true,
		Err: fmt.Errorf("%w: %s", cause, ack.Detail),
	}))
}

// Acknowledged reports whether the backend's ACK stands in the page that the claim is
// in. It is good until Close: an attempt that has ended may still be acknowledged.
func (a *Attempt) Acknowledged() bool { return a.claim != nil && a.claim.Acknowledged() }

// AcksInPage reports whether an acknowledgement stands in the page from the moment on
// at which it is given. One that is a message may never come: a full channel takes none.
func (a *Attempt) AcksInPage() bool {
	if a.claim == nil {
		return false
	}
	_, _, inPage := a.claim.InPage()
	return inPage
}

// Acked ends an attempt that is Acknowledged.
func (a *Attempt) Acked(now time.Time) Outcome {
	return a.Answered(Ack{Token: a.token[:], Accepted: true}, now)
}

// Unanswered ends the attempt without an answer: err is ErrNoAck, ErrBackendGone, or
// the context's, when the caller no longer waits. An ACK that stands in the page, and
// that nobody has seen yet, is an answer.
func (a *Attempt) Unanswered(err error, now time.Time) Outcome {
	if a.Acknowledged() {
		return a.Acked(now)
	}
	reason := BackendAckTimeout
	if errors.Is(err, context.Canceled) {
		reason = Cancelled
	}
	return a.end(a.settle(Outcome{Stage: StageAwaitAck, Reason: reason, FDReachedBackend: true, Err: err}))
}

// Close closes the claim, and ends the attempt if it is pending: an ACK that comes
// later finds nobody. It may be called again.
func (a *Attempt) Close() {
	a.finish(false)
	if a.claim != nil {
		a.claim.Close()
	}
}

// acknowledged judges an ACK. The backend says that it has adopted; what is added here
// is only whether that was its right, and in time.
func (a *Attempt) acknowledged(presented []byte, now time.Time) Outcome {
	out := Outcome{Verdict: Adopted, Stage: StageAcknowledge, FDReachedBackend: true}
	own := a.token.Equal(presented)
	waited, err := a.acknowledge(presented, now)
	switch {
	case err == nil:
		out.Waited = waited
		return out
	case !own, a.claim != nil && errors.Is(err, ErrTokenNotPending):
		out.Reason, out.Err = BackendAckTimeout, err
		return a.settle(out)
	}
	// The ACK came late. A v1 backend has adopted all the same, and its client waits
	// for the ready event (spec 02 §9).
	out.Reason, out.Late, out.Err = BackendAckTimeout, true, err
	return out
}

// acknowledge uses the token up, if presented is the same bytes, and returns how long
// that took since issue. It fails with ErrTokenNotPending, with *AckDeadlineError (the
// attempt has ended then), or with ErrTokenMismatch (it stays pending).
func (a *Attempt) acknowledge(presented []byte, now time.Time) (waited time.Duration, err error) {
	waited = now.Sub(a.issued)
	switch {
	case a.table == nil:
		return 0, ErrTokenNotPending
	case waited >= a.life:
		a.finish(true)
		return 0, &AckDeadlineError{Backend: a.Backend, Deadline: a.Deadline()}
	case !a.token.Equal(presented):
		return 0, ErrTokenMismatch
	}
	a.finish(true)
	return max(waited, 0), nil
}

// settle decides an attempt that has no ACK in time: the claim knows who owns the
// connection. Without a claim only an explicit rejection proves that the broker still
// does.
func (a *Attempt) settle(out Outcome) Outcome {
	if a.claim == nil {
		out.Verdict = Unknown
		if out.Rejected {
			out.Verdict = NotTaken
		}
		return out
	}
	won, err := a.claim.Take()
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

// end completes an outcome, and takes the attempt out of the table whatever became of
// it.
func (a *Attempt) end(out Outcome) Outcome {
	a.finish(false)
	out.SentAt = a.sentAt
	return out
}

// finish takes the attempt out of the table if it is in it.
func (a *Attempt) finish(answered bool) {
	if a.table != nil {
		a.table.end(a, answered)
	}
}

// Format keeps the token out of logs: fmt would print the fields.
func (a *Attempt) Format(s fmt.State, _ rune) {
	_, _ = io.WriteString(s, "handoff.Attempt(redacted)")
}

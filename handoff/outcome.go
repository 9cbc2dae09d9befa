package handoff

import "time"

// Verdict says who owns the connection after an attempt.
type Verdict string

const (
	// Adopted: the backend owns it. The broker closes its copy and says nothing.
	Adopted Verdict = "adopted"
	// NotTaken: the broker still owns it, and nothing was read from it. It may
	// offer it to another backend or answer the client.
	NotTaken Verdict = "not_taken"
	// Unknown: a v1 backend, which knows no claim, may own it; or the claim itself
	// can't be relied on. The broker closes its copy and neither
	// reads, writes nor offers the connection again.
	Unknown Verdict = "unknown"
)

// Stage is the step of a handoff that an outcome was reached in (spec 02 §9).
type Stage string

// The stages in their order. Issue is usher's own: nothing was sent yet. Send
// transfers the connection and the offer at once; a v1 exchange has Transfer and
// Deliver in its place.
const (
	StageIssue       Stage = "Issue"
	StageSend        Stage = "Send"
	StageTransfer    Stage = "Transfer"
	StageDeliver     Stage = "Deliver"
	StageAwaitAck    Stage = "AwaitAck"
	StageAcknowledge Stage = "Acknowledge"
)

// Cancelled is the reason of an attempt whose context ended: the caller gave up,
// which says nothing about the backend.
const Cancelled Reason = "Cancelled"

// Outcome is what became of one attempt.
type Outcome struct {
	Verdict Verdict
	// Stage is where the attempt ended.
	Stage Stage
	// Reason says why the connection was not adopted in time; empty when it was.
	Reason Reason
	// FDReachedBackend reports whether the backend may hold a descriptor of the
	// connection. It never under-reports.
	FDReachedBackend bool
	// LeakedBackendHandle is, behind a v1 exchange on Windows, the handle of the connection that
	// may stay open in the backend's process until that closes it or ends, as the broker can't
	// close it there (spec 02 §11); 0 for none.
	LeakedBackendHandle uint64
	// Rejected reports that the backend answered with a NACK.
	Rejected bool
	// Late reports that the backend adopted without an acknowledgement in time.
	Late bool
	// SentAt is when the message had left; zero when it did not.
	SentAt time.Time
	// Waited is the time between issue and acknowledgement; 0 without one.
	Waited time.Duration
	// Err is what went wrong, for the log; nil when adopted in time. It never
	// holds token bytes.
	Err error
}

// Relinquish reports whether the backend may own the connection, so that the
// broker must not answer on it (spec 02 §10).
func (o Outcome) Relinquish() bool { return o.Verdict != NotTaken }

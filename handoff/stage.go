package handoff

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

// Relinquish reports whether the backend may own the connection after a handoff
// that failed at stage, so that the broker must not answer on it any more
// (spec 02 §10).
//
// backendMayAdopt says that enough reached the backend to adopt: part of a
// transfer, or on Unix the descriptor before an offer that failed.
// explicitReject says that a fully valid ACK refused the connection.
func Relinquish(stage Stage, backendMayAdopt, explicitReject bool) bool {
	switch stage {
	case StageIssue, StageSend, StageTransfer, StageDeliver:
		return backendMayAdopt
	case StageAwaitAck:
		return !explicitReject
	default:
		return true
	}
}

package handoff

import (
	"time"

	"github.com/seed-7265657e/usher/internal/window"
)

// Reason says why a connection is not handed off (spec 02 §4). The client
// reconnects to the backend pipe then; no reason is an error to it.
type Reason string

// Reasons known before an attempt.
const (
	ClientUnsupported        Reason = "ClientUnsupported"        // client bit 0 clear
	ServicePolicyDisabled    Reason = "ServicePolicyDisabled"    // service policy off, or the platform cannot pass handles
	FdPressureDisabled       Reason = "FdPressureDisabled"       // descriptors run short, or too many handoffs are in flight
	FailedAttemptRateLimited Reason = "FailedAttemptRateLimited" // the backend's failure window is full
)

// Reasons of usher's own: the attempt could not begin.
const (
	TokenUnavailable Reason = "TokenUnavailable" // pending limit reached, or no randomness
	ClaimUnavailable Reason = "ClaimUnavailable" // no object for the claim to be had
	OfferTooLarge    Reason = "OfferTooLarge"    // the client's trace fields don't fit an offer
)

// Reasons that are the outcome of a failed attempt.
const (
	PermissionDenied  Reason = "PermissionDenied"
	IntegrityMismatch Reason = "IntegrityMismatch"
	BackendAckTimeout Reason = "BackendAckTimeout"
)

// Failure reports whether the reason is the outcome of a failed attempt and
// counts in the backend's failure window.
func (r Reason) Failure() bool {
	switch r {
	case PermissionDenied, IntegrityMismatch, BackendAckTimeout:
		return true
	}
	return false
}

// Key names the backends that share a failure window.
type Key struct {
	Instance string // broker instance
	Service  string
	Version  string
	ExeHash  string
}

// Inputs is what a decision rests on.
type Inputs struct {
	Client     bool // the client offers capability bit 0
	Service    bool // the service's policy allows handoff
	FDPressure bool // the broker runs short of descriptors
}

// Decision is Attempt, or a Reason not to. RetryAfter is set for
// FailedAttemptRateLimited: how long until the window ends.
type Decision struct {
	Attempt    bool
	Reason     Reason
	RetryAfter time.Duration
}

// PolicyConfig bounds the failure window of a backend. NewPolicy takes the
// numbers as given and raises those below their minimum; start from
// DefaultPolicyConfig.
type PolicyConfig struct {
	MaxFailed int           // failures per window, at least 1
	Window    time.Duration // 0 and less → 1 ms
}

// DefaultPolicyConfig gives 8 failures per 30 s.
func DefaultPolicyConfig() PolicyConfig {
	return PolicyConfig{MaxFailed: 8, Window: 30 * time.Second}
}

// Policy decides whether to attempt a handoff. It belongs to one goroutine. It
// remembers only backends that failed.
type Policy struct {
	maxFailed int
	// failures begin to be counted with the first. An access behind the window's end
	// begins it again, empty.
	failures *window.Counter[Key]
}

// NewPolicy returns a policy that has seen no failure.
func NewPolicy(config PolicyConfig) *Policy {
	return &Policy{maxFailed: max(config.MaxFailed, 1), failures: window.New[Key](config.Window)}
}

// Decide judges one handoff in the order of spec 02 §4.
func (p *Policy) Decide(key Key, in Inputs, now time.Time) Decision {
	switch {
	case !in.Client:
		return Decision{Reason: ClientUnsupported}
	case !in.Service:
		return Decision{Reason: ServicePolicyDisabled}
	case in.FDPressure:
		return Decision{Reason: FdPressureDisabled}
	}
	if failed, left := p.failures.Count(key, now); failed >= p.maxFailed {
		return Decision{Reason: FailedAttemptRateLimited, RetryAfter: left}
	}
	return Decision{Attempt: true}
}

// RecordFailure counts a failed attempt and returns its reason unchanged. A
// reason that is no failure of the backend is not counted.
func (p *Policy) RecordFailure(key Key, failure Reason, now time.Time) Reason {
	if failure.Failure() {
		p.failures.Add(key, now)
	}
	return failure
}

// RecordSuccess forgets the failures of key.
func (p *Policy) RecordSuccess(key Key) { p.failures.Forget(key) }

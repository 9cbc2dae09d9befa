package handoff

import "time"

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
// remembers only backends that failed, at most policyRoom or twice as many as had
// a window that was not over when it last swept.
type Policy struct {
	config  PolicyConfig
	windows map[Key]failureWindow
	room    int // windows held before those that are over are swept out
}

// failureWindow starts at the first failure. An access after its end starts it
// again, empty.
type failureWindow struct {
	start time.Time
	count int
}

const policyRoom = 64

// NewPolicy returns a policy that has seen no failure.
func NewPolicy(config PolicyConfig) *Policy {
	return &Policy{
		config: PolicyConfig{
			MaxFailed: max(config.MaxFailed, 1),
			Window:    atLeastOneMilli(config.Window),
		},
		windows: make(map[Key]failureWindow),
		room:    policyRoom,
	}
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
	window, _ := p.access(key, now)
	if window.count >= p.config.MaxFailed {
		return Decision{
			Reason:     FailedAttemptRateLimited,
			RetryAfter: p.config.Window - window.elapsed(now),
		}
	}
	return Decision{Attempt: true}
}

// RecordFailure counts a failed attempt and returns its reason unchanged. A
// reason that is no failure of the backend is not counted.
func (p *Policy) RecordFailure(key Key, failure Reason, now time.Time) Reason {
	if !failure.Failure() {
		return failure
	}
	window, known := p.access(key, now)
	if !known {
		p.makeRoom(now)
		window.start = now
	}
	window.count = min(window.count+1, p.config.MaxFailed)
	p.windows[key] = window
	return failure
}

// RecordSuccess forgets the failures of key.
func (p *Policy) RecordSuccess(key Key) {
	delete(p.windows, key)
}

// access returns the window of key, started again if it was over.
func (p *Policy) access(key Key, now time.Time) (window failureWindow, known bool) {
	window, known = p.windows[key]
	if known && window.elapsed(now) >= p.config.Window {
		window = failureWindow{start: now}
		p.windows[key] = window
	}
	return window, known
}

// makeRoom sweeps out the windows that are over once as many were added as were
// left by the sweep before, so a new key costs O(1) on average. A key swept out
// counts as one that never failed.
func (p *Policy) makeRoom(now time.Time) {
	if len(p.windows) < p.room {
		return
	}
	for key, window := range p.windows {
		if window.elapsed(now) >= p.config.Window {
			delete(p.windows, key)
		}
	}
	p.room = max(policyRoom, 2*len(p.windows))
}

func (w failureWindow) elapsed(now time.Time) time.Duration {
	return max(now.Sub(w.start), 0)
}

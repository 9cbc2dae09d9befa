package handoff

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// DefaultAckDeadline is how long a backend has to acknowledge a handoff
// (spec 02 §3).
const DefaultAckDeadline = 5 * time.Second

// Backend is whom a handoff was offered to.
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

// Acked is a handoff acknowledged in time.
type Acked struct {
	Token   Token
	Backend Backend
	Waited  time.Duration // since Register
}

// Overdue is a handoff that nobody acknowledged in time.
type Overdue struct {
	Token    Token
	Backend  Backend
	Deadline time.Time
}

// Reason is the failure class to record for the backend.
func (Overdue) Reason() Reason { return BackendAckTimeout }

// AckDeadlineError reports an acknowledgement that came at its deadline or
// later.
type AckDeadlineError struct {
	Backend  Backend
	Deadline time.Time
}

func (e *AckDeadlineError) Error() string {
	return fmt.Sprintf("backend %s acknowledged the handoff after its deadline of %s; look whether it is overloaded or stopped",
		e.Backend, e.Deadline.Format(time.RFC3339Nano))
}

// Reason is the failure class to record for the backend.
func (*AckDeadlineError) Reason() Reason { return BackendAckTimeout }

// Acks holds the handoffs that wait for an acknowledgement, keyed by token. An
// entry ends once: by Acknowledge, Abandon or ExpireOverdue, and its token is
// revoked with it. It is safe for concurrent use, and its operations cost the
// same whatever is pending. Entries leave only by these calls, so the owner
// must call ExpireOverdue now and then.
//
// Lock order: mu before Tokens.mu.
type Acks struct {
	tokens *Tokens

	mu      sync.Mutex
	pending table[Backend]
}

// NewAcks returns an empty registry over tokens. A deadline of 0 and less means
// 1 ms.
func NewAcks(tokens *Tokens, deadline time.Duration) *Acks {
	return &Acks{tokens: tokens, pending: newTable[Backend](atLeastOneMilli(deadline))}
}

// Deadline is how long a backend has to acknowledge.
func (a *Acks) Deadline() time.Duration { return a.pending.life }

// Register starts the wait for token, due at now + deadline. It replaces an
// earlier entry of the same token.
func (a *Acks) Register(token Token, backend Backend, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at := a.pending.find(token); at != 0 {
		a.pending.remove(at)
	}
	a.pending.insert(token, backend, now)
}

// Acknowledge ends the wait for token; now is when the ACK was observed. It
// fails with ErrTokenNotPending, and then changes nothing, or with
// *AckDeadlineError.
func (a *Acks) Acknowledge(token Token, now time.Time) (Acked, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := a.pending.find(token)
	if at == 0 {
		return Acked{}, ErrTokenNotPending
	}
	late := a.pending.expired(at, now)
	backend, since := a.end(at)
	if late {
		return Acked{}, &AckDeadlineError{Backend: backend, Deadline: since.Add(a.pending.life)}
	}
	return Acked{Token: token, Backend: backend, Waited: max(now.Sub(since), 0)}, nil
}

// Abandon ends the wait for token, if there is one, and revokes the token in any
// case. It returns the backend that was waited for.
func (a *Acks) Abandon(token Token) (Backend, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := a.pending.find(token)
	if at == 0 {
		a.tokens.Revoke(token)
		return Backend{}, false
	}
	backend, _ := a.end(at)
	return backend, true
}

// ExpireOverdue ends every wait whose deadline has come and returns them, the
// earliest deadline first.
func (a *Acks) ExpireOverdue(now time.Time) []Overdue {
	a.mu.Lock()
	defer a.mu.Unlock()
	var overdue []Overdue
	for at := a.pending.oldest(); at != 0 && a.pending.expired(at, now); at = a.pending.oldest() {
		token := a.pending.slots[at].token
		backend, since := a.end(at)
		overdue = append(overdue, Overdue{
			Token: token, Backend: backend, Deadline: since.Add(a.pending.life),
		})
	}
	return overdue
}

// Pending counts the handoffs waited for, overdue ones included.
func (a *Acks) Pending() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pending.used
}

// Format keeps the tokens out of logs: fmt would print the fields.
func (a *Acks) Format(s fmt.State, _ rune) {
	_, _ = io.WriteString(s, "handoff.Acks(redacted)")
}

// end removes the entry in slot at and revokes its token.
func (a *Acks) end(at uint32) (backend Backend, since time.Time) {
	entry := a.pending.slots[at]
	a.pending.remove(at)
	a.tokens.Revoke(entry.token)
	return entry.value, entry.since
}

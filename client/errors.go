package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/wire"
)

var (
	// ErrBrokerUnreachable says that no broker answers on its socket. Nothing
	// was sent; start one with "usher serve".
	ErrBrokerUnreachable = errors.New("broker unreachable")
	// ErrBackendUnreachable says that the broker named a backend whose pipe does
	// not answer. Nothing was sent; dialling again asks the broker anew.
	ErrBackendUnreachable = errors.New("backend unreachable")
	// ErrNoAnswer says that neither broker nor backend answered in time. Nothing was
	// sent; dialling again is safe. It is a net.Error with Timeout() true, and an
	// os.ErrDeadlineExceeded and context.DeadlineExceeded too.
	ErrNoAnswer error = &noAnswer{}
	// ErrOutcomeUnknown says that a connection failed when a request may have
	// reached the backend. It must not be sent again unless it is idempotent. It
	// comes from a Conn, and from DialWith; never from Dial, which sends no request.
	ErrOutcomeUnknown = errors.New("outcome unknown")
)

// late is a timeout for whoever asks.
type late struct{}

func (late) Error() string { return "no verdict in time" }

// Is makes a late one each of the two.
func (late) Is(target error) bool {
	return target == os.ErrDeadlineExceeded || target == context.DeadlineExceeded
}

// Timeout and Temporary are net.Error's.
func (late) Timeout() bool   { return true }
func (late) Temporary() bool { return true }

// errLate says no more than that the time is over.
var errLate net.Error = late{}

// noAnswer is an ErrNoAnswer, with what was waited for where that is known.
type noAnswer struct {
	late
	cause error
}

func (e *noAnswer) Error() string {
	const text = "no answer in time; nothing was sent, dialling again is safe"
	if e.cause == nil {
		return text
	}
	return fmt.Sprintf("%s: %v", text, e.cause)
}

func (e *noAnswer) Is(target error) bool { return target == ErrNoAnswer || e.late.Is(target) }

func (e *noAnswer) Unwrap() error { return e.cause }

var (
	// errEnded says that the broker's connection ended without a verdict.
	errEnded = fmt.Errorf("%w: it ended the connection without an answer", ErrBrokerUnreachable)
	// errOver is what a connection says whose time was over before.
	errOver = errors.New("the connection has ended: no verdict came in time")
)

// callerError gives what a call returns its form.
func (s *stream) callerError(c *caller, err error) error {
	switch err {
	case nil:
		return nil
	case net.ErrClosed, os.ErrDeadlineExceeded: // of the call, not of the exchange
		return s.outcome.of(opError(c.op, err))
	}
	return opError(c.op, err)
}

// opError is err in the form that net's connections give it.
func opError(op string, err error) error {
	if _, unknown := err.(*OutcomeError); unknown || err == nil {
		return err
	}
	return &net.OpError{Op: op, Net: "unix", Err: err}
}

// Code says why a broker refused (spec 01 §5.1).
type Code uint32

// The codes a broker sends.
const (
	CodeUnspecified        Code = Code(wire.ErrorCode_ERROR_CODE_UNSPECIFIED)
	CodeVersionUnsupported Code = Code(wire.ErrorCode_ERROR_VERSION_UNSUPPORTED)
	CodeServiceUnknown     Code = Code(wire.ErrorCode_ERROR_SERVICE_UNKNOWN)
	CodeBackendUnavailable Code = Code(wire.ErrorCode_ERROR_BACKEND_SPAWN_FAILED)
	CodeRateLimited        Code = Code(wire.ErrorCode_ERROR_RATE_LIMITED)
	CodeShuttingDown       Code = Code(wire.ErrorCode_ERROR_SHUTTING_DOWN)
	CodePeerRejected       Code = Code(wire.ErrorCode_ERROR_PEER_REJECTED)
	CodeInternal           Code = Code(wire.ErrorCode_ERROR_INTERNAL)
	CodeVersionBlocked     Code = Code(wire.ErrorCode_ERROR_VERSION_BLOCKED)
	CodeFDPressure         Code = Code(wire.ErrorCode_ERROR_FD_PRESSURE)
)

// String returns the code's name on the wire.
func (c Code) String() string { return wire.ErrorCode(c).String() }

// RefusedError is the broker's answer that there is no backend for this client.
// Nothing was sent to any backend.
type RefusedError struct {
	Code   Code
	Reason string
	// RetryAfter is how long to wait before asking again; 0 means that asking
	// again does not help until something changes.
	RetryAfter time.Duration

	ownBuild bool // the client has asked for one: there is no definition to look at
}

func (e *RefusedError) Error() string {
	text := fmt.Sprintf("refused by the broker: %s (%s)", e.Reason, e.Code)
	next := advice[e.Code]
	if next == "" && !e.ownBuild {
		next = definedAdvice[e.Code]
	}
	if next != "" {
		text += ": " + next
	}
	if e.RetryAfter > 0 {
		text += fmt.Sprintf("; retry after %s", e.RetryAfter)
	}
	return text
}

// advice says what to do next, by code, and definedAdvice what to do about a service that
// has a definition; docs/errors.md says more.
var (
	advice = map[Code]string{
		CodeFDPressure:   "raise the broker's descriptor limit (ulimit -n)",
		CodeShuttingDown: "ask again, the next broker answers",
	}
	definedAdvice = map[Code]string{
		CodeServiceUnknown:     "define the service with \"usher service add\", or see what is wrong with \"usher service check\"",
		CodeBackendUnavailable: "start a backend of that version from the very file that \"usher service show\" names; \"usher status\" lists those that live, also those of another build",
		CodeVersionBlocked:     "update the client, or see \"usher service show\" for the versions allowed",
	}
)

func refused(e *hello.Refusal, ownBuild bool) *RefusedError {
	return &RefusedError{Code: Code(e.Code), Reason: e.Reason, RetryAfter: e.RetryAfter, ownBuild: ownBuild}
}

// OutcomeError is an ErrOutcomeUnknown with its cause. It is a net.Error where
// its cause is one.
type OutcomeError struct {
	Err error // EOF, a reset, a timeout
}

func (e *OutcomeError) Error() string {
	return fmt.Sprintf("%v: the connection failed before the answer (%v); don't send the request again unless it is idempotent", ErrOutcomeUnknown, e.Err)
}

// Is makes errors.Is(err, ErrOutcomeUnknown) true.
func (e *OutcomeError) Is(target error) bool { return target == ErrOutcomeUnknown }

// Unwrap returns the cause.
func (e *OutcomeError) Unwrap() error { return e.Err }

// Timeout implements net.Error.
func (e *OutcomeError) Timeout() bool { return errors.Is(e.Err, os.ErrDeadlineExceeded) }

// Temporary implements net.Error.
func (e *OutcomeError) Temporary() bool { return false }

var _ net.Error = (*OutcomeError)(nil)

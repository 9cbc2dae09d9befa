package handoff

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/sock"
)

// SendClass is the kind of failure of a transfer to a backend (spec 02 §5).
type SendClass string

const (
	SendUnsupportedPlatform SendClass = "UnsupportedPlatform" // the platform cannot pass handles
	SendPermissionDenied    SendClass = "PermissionDenied"
	SendBackendUnavailable  SendClass = "BackendUnavailable" // nobody listens, or it has gone
	SendWouldBlock          SendClass = "WouldBlock"         // no room now; nothing was sent
	SendFailed              SendClass = "Failed"             // any other error
	SendPartial             SendClass = "PartialSend"        // fewer bytes sent than given
	SendTooLarge            SendClass = "TooLarge"           // the offer does not fit a channel; usher's own

	// SendCannotOpenBackend and SendDuplicateFailed are those of a v1 exchange on Windows (spec
	// 02 §11): the backend's process could not be opened, or got no handle.
	SendCannotOpenBackend SendClass = "CannotOpenBackend"
	SendDuplicateFailed   SendClass = "DuplicateFailed"

	// SendPostTransferDeliveryFailed: the offer failed after the transfer.
	SendPostTransferDeliveryFailed SendClass = "PostTransferDeliveryFailed"
)

// Reason is the fallback reason of the class.
func (c SendClass) Reason() Reason {
	switch c {
	case SendUnsupportedPlatform:
		return ServicePolicyDisabled
	case SendPermissionDenied, SendCannotOpenBackend, SendDuplicateFailed:
		return PermissionDenied
	case SendTooLarge:
		return OfferTooLarge
	default:
		return BackendAckTimeout
	}
}

// MayHaveReached reports whether the descriptor may be in the backend after n
// bytes were sent. The first byte carries it, so it never says no once n > 0.
func (c SendClass) MayHaveReached(n int) bool {
	return n > 0 || c == SendPostTransferDeliveryFailed
}

// SendError is a transfer that failed, with the system's error inside.
type SendError struct {
	Stage Stage // Send, or the step of a v1 exchange
	Class SendClass
	Sent  int   // bytes sent
	Err   error // nil for a partial send
	// Left is, on Windows, the handle that stays open in the backend, which was not told of it
	// (spec 02 §11); else 0.
	Left uint64
}

func (e *SendError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("handoff failed at %s: %s after %d bytes", e.Stage, e.Class, e.Sent)
	}
	return fmt.Sprintf("handoff failed at %s: %s: %v", e.Stage, e.Class, e.Err)
}

func (e *SendError) Unwrap() error { return e.Err }

// Reason is the fallback reason of the failure.
func (e *SendError) Reason() Reason { return e.Class.Reason() }

// Reached reports whether the descriptor may be in the backend.
func (e *SendError) Reached() bool { return e.Class.MayHaveReached(e.Sent) }

// ClassifySend judges an error of a sendmsg that sent nothing. The stage is
// Send; a transport of more steps sets its own.
func ClassifySend(err error) *SendError {
	return &SendError{Stage: StageSend, Class: sendClass(err), Err: err}
}

// ClassifyConnect judges an error of connecting to a backend. The stage is as
// in ClassifySend.
func ClassifyConnect(err error) *SendError {
	return &SendError{Stage: StageSend, Class: connectClass(err), Err: err}
}

// PartialSend is a sendmsg that took only the first sent bytes. The stage is as
// in ClassifySend.
func PartialSend(sent int) *SendError {
	return &SendError{Stage: StageSend, Class: SendPartial, Sent: sent}
}

// sendClass asks for the errno before the platform: ENOSYS and EOPNOTSUPP also match
// errors.ErrUnsupported, but come from a platform that has the call.
func sendClass(err error) SendClass {
	var number errno.Errno
	switch {
	case errors.Is(err, sock.ErrLeftBehind):
		return SendPostTransferDeliveryFailed
	case errors.Is(err, fs.ErrPermission):
		return SendPermissionDenied
	case errors.Is(err, sock.ErrNotOpened):
		return SendCannotOpenBackend
	case errors.Is(err, sock.ErrNotDuplicated):
		return SendDuplicateFailed
	case errors.As(err, &number):
		return sendErrnoClass(number)
	case errors.Is(err, errors.ErrUnsupported):
		return SendUnsupportedPlatform
	case errors.Is(err, os.ErrDeadlineExceeded):
		return SendWouldBlock
	default:
		return SendFailed
	}
}

func connectClass(err error) SendClass {
	var number errno.Errno
	switch {
	case errors.As(err, &number):
		return connectErrnoClass(number)
	case errors.Is(err, errors.ErrUnsupported):
		return SendUnsupportedPlatform
	default:
		return SendBackendUnavailable
	}
}

package hello

import (
	"fmt"
	"time"

	"github.com/seed-7265657e/usher/internal/wire"
)

// The refusals of spec 01 §7.1 that are decided outside this package, by what
// the broker finds behind a well-formed Hello. One function per text.

const (
	retrySoon    = time.Second      // a condition that passes by itself
	retryBlocked = 30 * time.Second // a policy that a person has to change
)

// FDPressure is row 7: the broker is low on descriptors.
func FDPressure() *Refusal {
	return &Refusal{
		Code:       wire.ErrorCode_ERROR_FD_PRESSURE,
		Reason:     "broker is low on file descriptors; retry shortly",
		RetryAfter: retrySoon,
	}
}

// ShuttingDown is usher's answer while it drains, in the place of row 7. v1
// defines the code, never sends it, and its clients know it.
func ShuttingDown() *Refusal {
	return &Refusal{
		Code:       wire.ErrorCode_ERROR_SHUTTING_DOWN,
		Reason:     "broker is shutting down; retry shortly",
		RetryAfter: retrySoon,
	}
}

// InvalidServiceName is row 14, and row 19 for a name inside the definition.
func InvalidServiceName() *Refusal { return rejected("invalid service_name") }

// ServiceNotFound is row 20: no definition file or no directory for it.
func ServiceNotFound() *Refusal {
	return unknownService("service definition was not found")
}

// ServiceUnloadable is row 21: the definition exists and can't be used.
func ServiceUnloadable(err error) *Refusal {
	return unknownService("service definition could not be loaded: " + err.Error())
}

// OwnBuildRefused says why a client can't be served by its own build.
func OwnBuildRefused(err error) *Refusal {
	return unknownService("the client's own build can't be started: " + err.Error())
}

// NoOwnBuilds is for a client of a tool that has reached a broker of defined services.
func NoOwnBuilds() *Refusal {
	return unknownService("this broker serves defined services, and starts no client's own build")
}

// StartFailed is what all are told who have waited for an instance that did not become
// ready; reason says how it ended, and what it said last. Asking again does not help until
// something changes, or retry has passed.
func StartFailed(reason string, retry time.Duration) *Refusal {
	return &Refusal{Code: wire.ErrorCode_ERROR_BACKEND_SPAWN_FAILED, Reason: reason, RetryAfter: retry}
}

// NoPipe is for a client that is to reconnect to a service that takes connections by
// handoff alone.
func NoPipe() *Refusal {
	return &Refusal{
		Code:   wire.ErrorCode_ERROR_BACKEND_SPAWN_FAILED,
		Reason: "this service has no socket to reconnect to, and this connection may not be handed over: give its definition one (listen)",
	}
}

// Full is for a client that has waited in vain for one of most processes to end.
func Full(most int) *Refusal {
	return &Refusal{
		Code:       wire.ErrorCode_ERROR_RATE_LIMITED,
		Reason:     fmt.Sprintf("all %d processes that the service may have are busy", most),
		RetryAfter: retrySoon,
	}
}

// RelaysFull is for a client whose connection would have to be relayed, when most are.
func RelaysFull(most int) *Refusal {
	return &Refusal{
		Code:       wire.ErrorCode_ERROR_RATE_LIMITED,
		Reason:     fmt.Sprintf("all %d connections that may be relayed are", most),
		RetryAfter: retrySoon,
	}
}

// BelowMinVersion is row 22.
func BelowMinVersion() *Refusal {
	return blocked("wanted_version is below min_version")
}

// OutsideAllowList is row 23.
func OutsideAllowList() *Refusal {
	return blocked("wanted_version is not in version_allow_list")
}

// IsolationUnresolved is row 24.
func IsolationUnresolved(err error) *Refusal {
	return internalFault("service isolation could not be resolved: " + err.Error())
}

// BackendNotRegistered is row 28: nothing serves the version and nothing may
// start it.
func BackendNotRegistered() *Refusal {
	return &Refusal{
		Code:       wire.ErrorCode_ERROR_BACKEND_SPAWN_FAILED,
		Reason:     "backend is not registered",
		RetryAfter: retrySoon,
	}
}

// BackendUnusable is row 31: the definition is no use for the backend found.
func BackendUnusable(err error) *Refusal {
	return internalFault("registered backend could not be installed: " + err.Error())
}

// Paused is what a client of a paused service is told that has waited for its time, or
// found too many who wait.
func Paused(service string) *Refusal {
	return &Refusal{
		Code:       wire.ErrorCode_ERROR_RATE_LIMITED,
		Reason:     fmt.Sprintf("service %s is paused", service),
		RetryAfter: retrySoon,
	}
}

// RateLimited is row 32; retry is what Limiter.Allow returned.
func RateLimited(retry time.Duration) *Refusal {
	return &Refusal{
		Code:       wire.ErrorCode_ERROR_RATE_LIMITED,
		Reason:     "Hello rate limit exceeded",
		RetryAfter: max(retry, time.Millisecond),
	}
}

func rejected(reason string) *Refusal {
	return &Refusal{Code: wire.ErrorCode_ERROR_PEER_REJECTED, Reason: reason}
}

func unsupported(reason string) *Refusal {
	return &Refusal{Code: wire.ErrorCode_ERROR_VERSION_UNSUPPORTED, Reason: reason}
}

func unknownService(reason string) *Refusal {
	return &Refusal{Code: wire.ErrorCode_ERROR_SERVICE_UNKNOWN, Reason: reason}
}

func internalFault(reason string) *Refusal {
	return &Refusal{Code: wire.ErrorCode_ERROR_INTERNAL, Reason: reason}
}

func blocked(reason string) *Refusal {
	return &Refusal{
		Code:       wire.ErrorCode_ERROR_VERSION_BLOCKED,
		Reason:     reason,
		RetryAfter: retryBlocked,
	}
}

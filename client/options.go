package client

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
)

// Options say what a client wants. Service and Version must be set.
type Options struct {
	// Service is the service's name, [a-z0-9-], at most 64.
	Service string
	// Version is the version wanted, exactly: MAJOR.MINOR.PATCH with an optional
	// -prerelease.
	Version string

	// Broker is the path of the broker's socket. Empty: the value of
	// RUNNING_PROCESS_BROKER_V1_SOCKET, else this user's shared broker.
	Broker string
	// Timeout bounds everything until the connection is there, counted from Dial or,
	// where Dial has not asked, from the call that does; ctx may bound Dial and
	// DialWith further. 0 means RUNNING_PROCESS_BROKER_CLIENT_TIMEOUT_MS, else 30 s.
	Timeout time.Duration
	// ReadyTimeout bounds the wait for the end of a handoff that the broker has
	// announced; when it passes, the client reconnects. 0 means 2 s.
	ReadyTimeout time.Duration
	// NoHandoff asks the broker only where the backend is, and connects there.
	NoHandoff bool

	// Idempotent says that running the first request twice does no harm: DialWith,
	// and the first Write of a connection that has not been asked for yet, then ask
	// again when the connection fails before its verdict, instead of
	// ErrOutcomeUnknown.
	Idempotent bool
	// Eager makes a Dialer, and the dialers of HTTP and GRPC, ask the broker before
	// they return, always, as the function Dial does.
	Eager bool

	// CachedEndpoint is the backend's pipe from an earlier connection's
	// Endpoint. It is dialled first, without asking the broker, when Version
	// equals OwnVersion (Hello-skip, spec 01 §9); if that fails, the broker is
	// asked.
	CachedEndpoint string
	// OwnVersion is the version of the calling program.
	OwnVersion string
}

const (
	defaultTimeout      = 30 * time.Second
	defaultReadyTimeout = 2 * time.Second

	disableVariable = "RUNNING_PROCESS_DISABLE"
)

func (o *Options) complete() error {
	if o.Timeout <= 0 {
		o.Timeout = endpoint.Milliseconds(endpoint.ClientTimeoutVariable, defaultTimeout)
	}
	if o.ReadyTimeout <= 0 {
		o.ReadyTimeout = defaultReadyTimeout
	}
	broker, err := endpoint.BrokerSocket(o.Broker)
	if err != nil {
		return fmt.Errorf("where is the broker: %w", err)
	}
	o.Broker = broker
	return nil
}

// ErrBrokerDisabled says that RUNNING_PROCESS_DISABLE=1 is set: the caller takes
// its own direct path to the service.
var ErrBrokerDisabled = errors.New("broker disabled by " + disableVariable + "=1: connect to the service directly")

// checkEnabled follows spec 01 §9: unset is enabled, 1 is disabled, anything else
// a mistake that must not pass for either.
func checkEnabled() error {
	value, set := os.LookupEnv(disableVariable)
	switch {
	case !set:
		return nil
	case value == "1":
		return ErrBrokerDisabled
	}
	return fmt.Errorf("%s is %q: set it to 1, or unset it", disableVariable, value)
}

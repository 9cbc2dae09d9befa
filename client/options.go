package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/wire"
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
	//
	// ssh://[USER@]HOST[:PORT][/SOCKET][?usher=PROGRAM] is a broker on another host: each
	// connection is a process of ssh that runs usher there, ended and reaped soon after Close.
	// SOCKET is the absolute path of the broker's socket there, PROGRAM the path of usher.
	// Dial always asks then, nothing goes along with Hello, CachedEndpoint is not used, and
	// OwnBuild and Start are errors. See docs/beyond-one-host.md.
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

	// NoReadAhead reads no byte behind the verdict, so that the connection's descriptor
	// (SyscallConn) can be given to another program. It costs two reads more, and on
	// Windows, where it stays unbound to any completion port, a thread while one waits.
	NoReadAhead bool

	// Start, when set, is called where no broker answers at Broker. It returns nil when
	// one does, and the client goes on. Its ctx ends with Timeout, and with the
	// connection. It may be called from several goroutines at once.
	Start func(ctx context.Context) error
	// OwnBuild, when set, asks for an instance of the calling executable, which the broker
	// starts where none runs. No definition of the service is needed.
	OwnBuild *OwnBuild

	// CachedEndpoint is the backend's pipe from an earlier connection's
	// Endpoint. It is dialled first, without asking the broker, when Version
	// equals OwnVersion (Hello-skip, spec 01 §9); if that fails, the broker is
	// asked.
	CachedEndpoint string
	// OwnVersion is the version of the calling program.
	OwnVersion string
}

// OwnBuild says which instance of the own executable is wanted. Two clients share one only
// where their executables, Key, Dir and Env are equal.
type OwnBuild struct {
	// Key is of the client's choice, such as the root of a workspace.
	Key string
	// Dir is the instance's working directory, an absolute path; "/" when empty.
	Dir string
	// Env are variables, NAME=value each, that the instance gets beside those of a login.
	Env []string
	// IdleTimeout is how long the instance lives without a connection, and StartTimeout
	// how long it may take until it is ready; the broker's own where 0.
	IdleTimeout, StartTimeout time.Duration
}

// message is what the broker is told: bytes of a Hello.
func (o *OwnBuild) message() ([]byte, error) {
	if o == nil {
		return nil, nil
	}
	return wire.Append(nil, &wire.OwnBuild{
		Key: o.Key, Dir: o.Dir, Env: o.Env,
		IdleMs: uint64(max(o.IdleTimeout, 0).Milliseconds()), StartMs: uint64(max(o.StartTimeout, 0).Milliseconds()),
	})
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

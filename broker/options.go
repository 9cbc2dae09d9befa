package broker

import (
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/usage"
)

// Options configure a broker. The zero value of every field but Socket is a
// sensible default.
type Options struct {
	// Socket is the path to listen on.
	Socket string
	// Listener is a socket that listens at Socket already, which whoever started this
	// process has passed on; nil: the broker makes its own. Listen owns it from the call
	// on, and closes it when it fails.
	Listener *net.UnixListener
	// KeepName says that the name of Listener is somebody else's, who keeps the socket and
	// passes it to the next broker: this one leaves the name at the end, and those in the
	// socket's queue to its successor.
	KeepName bool
	// Instance is the broker's name in admin replies; "shared" by default.
	Instance string
	// DefinitionDir holds the service definitions, and DefinitionSource says for
	// people where that path comes from. By default both are found as spec 03 §2
	// says.
	DefinitionDir, DefinitionSource string
	// Static are v1 backends that serve on a pipe of their own and can't
	// register.
	Static []StaticBackend

	// HelloTimeout bounds one connection from accept until its Hello has been
	// read and answered, however slowly its bytes come; 30 s by default.
	HelloTimeout time.Duration
	// AckDeadline is how long a backend has to acknowledge a handoff; 5 s by
	// default.
	AckDeadline time.Duration
	// BackendWait is how long a client waits for a backend that is expected: after the
	// broker's start, and after one of its service and version has left; 2 s by
	// default. Otherwise it is refused at once.
	BackendWait time.Duration
	// DrainTimeout is how long Serve waits for connections under way once it has
	// been told to stop; 10 s by default.
	DrainTimeout time.Duration
	// MaxHandshakes bounds the connections without a verdict, in total, and
	// MaxHandshakesPerPeer per client process; 2048 and 1024 by default. The first is
	// never more than half of the descriptors that the process may have.
	MaxHandshakes, MaxHandshakesPerPeer int
	// HelloRate bounds the Hellos that one client process may send in a second;
	// DefaultHelloRate by default.
	HelloRate int
	// MaxBackends bounds the registered backends; 1024 by default, and never more
	// than a twelfth of the descriptors that the process may have: each takes three, for its
	// channel, its process and its page.
	MaxBackends int

	// MaxRelays bounds the connections that are relayed to programs with a listener of their
	// own; 1024 by default, and never more than an eighth of the descriptors that the process
	// may have.
	MaxRelays int

	// OwnBuilds has the broker start instances of its clients' own executables, for those
	// that ask for it (package usher). Otherwise it starts those of definitions alone.
	OwnBuilds bool
	// Version is that of the tool whose broker this is. A client of a newer build of the tool,
	// with a higher version or, of the same, with a file that was made later, has the broker
	// upgraded to it; an older one changes nothing. Empty: none does.
	Version string
	// LogDir is where instances that the broker starts log to, a directory of the user's own
	// with mode 0700, which is made where it is missing; by default a directory of
	// the broker's instance below the user's state directory.
	LogDir string
	// IdleExit is how long the broker goes on without a backend and without a client; 0:
	// for ever.
	IdleExit time.Duration
	// FirstHello is how long it goes on, whatever IdleExit says, where no Hello has come yet:
	// who has started it is about to ask.
	FirstHello time.Duration

	// Events is the file where the events of the broker's life are kept
	// (docs/protocol.md, section "The file of events"); empty: nowhere.
	Events string

	// Successor is how Upgrade starts the broker that takes this one's place.
	Successor Successor
	// Predecessor is the broker whose place this one takes; see TakePredecessor. Listen owns
	// it.
	Predecessor *Predecessor
	// Supervisor is told how the broker fares.
	Supervisor Supervisor
	// Logger gets the broker's log; slog.Default by default.
	Logger *slog.Logger
}

// StaticBackend is a v1 backend known by its endpoints.
type StaticBackend struct {
	Service, Version string
	// Pipe is where it serves, and answers identity probes.
	Pipe string
	// HandoffEndpoint is where it takes handed-over connections (spec 02 §8);
	// empty: its clients reconnect.
	HandoffEndpoint string
}

const (
	defaultHelloTimeout = 30 * time.Second
	defaultDrainTimeout = 10 * time.Second
	defaultBackendWait  = 2 * time.Second // twice what a backend waits at most between two attempts to register
	defaultHandshakes   = 2048
	defaultPerPeer      = 1024
	defaultBackends     = 1024
	defaultRelays       = 1024

	// DefaultHelloRate lets a build tool that starts a thousand compilers at once
	// through, and stops a loop that asks and asks. v1 names 256, and its broker never
	// enforces it (spec 01 §7.3).
	DefaultHelloRate = 4096
)

// leastRoom is the least that any of the bounds derived here may be.
const leastRoom = 8

// maxInFlight bounds the handoffs in flight to one service, so that frozen backends
// of one leave room for the clients of all others.
func (o *Options) maxInFlight() int { return max(o.MaxHandshakes/4, leastRoom) }

// maxBackendsPerProcess bounds the backends that one process may register, so that
// others find a place.
func (o *Options) maxBackendsPerProcess() int { return max(o.MaxBackends/16, leastRoom) }

func (o *Options) complete() error {
	if o.Socket == "" {
		return fmt.Errorf("broker: no socket given")
	}
	socket, err := filepath.Abs(o.Socket)
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	o.Socket = socket
	if o.Instance == "" {
		o.Instance = endpoint.Shared().String()
	}
	if o.DefinitionDir == "" {
		dir, source, err := endpoint.ServiceDefinitionDir()
		if err != nil {
			return fmt.Errorf("broker: %w", err)
		}
		o.DefinitionDir, o.DefinitionSource = dir, source
	}
	if o.LogDir == "" {
		o.LogDir = filepath.Dir(o.Socket) // where there is no home
		if state, err := endpoint.InstanceStateDir(o.Instance); err == nil {
			o.LogDir = state
		}
	}
	setDefault(&o.HelloTimeout, defaultHelloTimeout)
	setDefault(&o.AckDeadline, handoff.DefaultAckDeadline)
	setDefault(&o.DrainTimeout, defaultDrainTimeout)
	setDefault(&o.BackendWait, defaultBackendWait)
	setDefault(&o.MaxHandshakes, defaultHandshakes)
	setDefault(&o.MaxHandshakesPerPeer, defaultPerPeer)
	setDefault(&o.HelloRate, DefaultHelloRate)
	setDefault(&o.MaxBackends, defaultBackends)
	setDefault(&o.MaxRelays, defaultRelays)
	if limit, ok := usage.Limit(); ok {
		o.MaxHandshakes = min(o.MaxHandshakes, max(limit/2, leastRoom))
		o.MaxBackends = min(o.MaxBackends, max(limit/12, leastRoom))
		o.MaxRelays = min(o.MaxRelays, max(limit/8, leastRoom))
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return nil
}

func setDefault[T int | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

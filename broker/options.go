package broker

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/hello"
)

// Options configure a broker. The zero value of every field but Socket is a
// sensible default.
type Options struct {
	// Socket is the path to listen on.
	Socket string
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
	// DrainTimeout is how long Serve waits for connections under way once it has
	// been told to stop; 10 s by default.
	DrainTimeout time.Duration
	// MaxHandshakes bounds the connections without a verdict, in total, and
	// MaxHandshakesPerPeer per client process; 512 and 128 by default.
	MaxHandshakes, MaxHandshakesPerPeer int
	// HelloRate bounds the Hellos that one client process may send in a second;
	// 256 by default, as v1 says.
	HelloRate int
	// MaxBackends bounds the registered backends; 1024 by default.
	MaxBackends int

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
	defaultHandshakes   = 512
	defaultPerPeer      = 128
	defaultBackends     = 1024
)

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
	setDefault(&o.HelloTimeout, defaultHelloTimeout)
	setDefault(&o.AckDeadline, handoff.DefaultAckDeadline)
	setDefault(&o.DrainTimeout, defaultDrainTimeout)
	setDefault(&o.MaxHandshakes, defaultHandshakes)
	setDefault(&o.MaxHandshakesPerPeer, defaultPerPeer)
	setDefault(&o.HelloRate, hello.DefaultRateMax)
	setDefault(&o.MaxBackends, defaultBackends)
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

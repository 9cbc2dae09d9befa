package backend

import (
	"fmt"
	"log/slog"
	"os"
	"time"
	"unicode/utf8"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/loglimit"
	"github.com/seed-7265657e/usher/internal/names"
)

// Options say what a backend serves. Service and Version must be set, unless a broker
// starts the process: where both are empty they are what it was started for.
type Options struct {
	// Service is the name under which clients ask for it, [a-z0-9-], at most 64.
	Service string
	// Version is the backend's own version, MAJOR.MINOR.PATCH with an optional
	// -prerelease. Clients get exactly the version they name.
	Version string

	// Broker is the path of the broker's socket. Empty: the value of
	// RUNNING_PROCESS_BROKER_V1_SOCKET, else this user's shared broker.
	Broker string
	// Pipe is the path of the backend's own socket, where clients reconnect.
	// It must be UTF-8. Empty: a fresh random name beside the broker's sockets. Where a
	// v1 broker has started the process it is the pipe that this one names, for the first
	// Listener.
	Pipe string
	// HandoffEndpoint, when set, is the path of a second socket, on which a plain
	// v1 broker hands connections over (spec 02 §8). On such a connection the
	// backend must read before it writes; on Windows Accept has it once there is
	// something to read. Its name is not watched, as the pipe's is: once it is removed,
	// that broker finds this backend again when it is restarted.
	HandoffEndpoint string
	// Backlog is how many handed-over connections may wait for Accept; further
	// ones are refused, and their clients reconnect through the pipe. 0 means
	// 128.
	Backlog int
	// IdleTimeout is how long the backend goes on without a connection. Then it asks the
	// broker to be let go, which answers when nothing is on its way to it, or goes by
	// itself where it has none: the Listener closes, as by Close. 0: it stays.
	IdleTimeout time.Duration
	// Busy, when set, says whether the backend is at work although it has no connection: it
	// builds an index, or writes back what it has cached. It is asked when IdleTimeout is
	// over: with true the backend stays, takes connections as ever, and is asked again
	// after another IdleTimeout. And it is asked while Drain waits, about ten times a
	// second: a backend that its broker lets go, or that was told to end, first does its
	// work. Busy may be called on several goroutines at once, and takes the time that it
	// takes: until it has answered, the backend is at work.
	Busy func() bool
	// Inline, when set, is asked to answer a connection's first request at once, on
	// the Listener's own goroutine: it gets the first bytes that have come, at most
	// MaxInline of them, valid during the call, and returns the answer appended to
	// answer, and true. The connection reaches Accept only when more bytes come.
	// With false it goes to Accept as if nobody had looked. Inline must not block:
	// every other connection waits meanwhile.
	//
	// This is for what is answered from memory, a cache's hit or a ping: it costs
	// one wake-up and no goroutine.
	Inline func(answer, request []byte) ([]byte, bool)
	// Logger gets registrations and refused handoffs, and why the broker does not
	// take the backend in; nil: slog.Default.
	Logger *slog.Logger
}

const defaultBacklog = 128

// MaxInline is how many bytes Options.Inline gets to see, and how many a client
// sends as early data at most.
const MaxInline = 16 << 10

func (o *Options) complete() error {
	if o.Service == "" && o.Version == "" { // what a broker has started this process for
		o.Service, o.Version = os.Getenv(endpoint.ServiceVariable), os.Getenv(endpoint.VersionVariable)
	}
	if err := names.ServiceName(o.Service); err != nil {
		return err
	}
	if err := names.Version(o.Version); err != nil {
		return err
	}
	if !utf8.ValidString(o.Pipe) {
		return fmt.Errorf("pipe %q is no UTF-8, and clients are told of it in UTF-8 alone; set Options.Pipe to another path", o.Pipe)
	}
	if o.Backlog <= 0 {
		o.Backlog = defaultBacklog
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Logger = slog.New(loglimit.New(o.Logger.Handler())) // for what peers can cause
	return nil
}

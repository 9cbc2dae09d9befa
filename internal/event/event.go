// Package event holds the facts that a broker makes known: what came, what became of
// it, what went wrong. Each is a value of a type of its own, emitted once, by the
// goroutine that owns the broker's state. The log, the counters behind status and
// metrics, and whoever else wants to know take facts from there; nobody reads them out
// of a log line.
//
// A fact has a stable name (Name), which the log carries as the attribute "event". It
// holds numbers, texts and times alone: no bytes, so no token can get into one.
//
// A leaf: it imports nothing of usher, and no descriptor passes through it. A new fact
// is its type here, its line in log.go, and what counts it.
package event

import "time"

// Event is one of the types of this package. Who takes one in by a type switch, and
// keeps nothing of it but copies, costs no memory.
type Event interface {
	// Name is the stable name of the fact, for programs that read logs.
	Name() string
	fact()
}

// Backend is the backend that a fact is about.
type Backend struct {
	Service, Version string
	PID              int
	Pipe             string
}

// The broker.
type (
	// Serving: the broker takes connections.
	Serving struct{ Socket, Definitions string }
	// Draining: it takes no more, and ends once those under way have their verdict.
	Draining struct {
		Cause       string
		Connections int
	}
	// DrainTimeout: some had none in time.
	DrainTimeout struct{ Connections int }
	// Upgraded: another broker has taken this one's place.
	Upgraded struct{ PID int }
	// Stays: it stays for connections whose bytes pass through it.
	Stays struct{ Connections int }
	// UpgradeFailed: none has.
	UpgradeFailed struct{ Problem string }
	// TakenOver: a connection of the broker before this one has been taken in.
	TakenOver struct{}
	// Stopped is the last fact of a broker.
	Stopped struct{}
	// LoopFailed: the event loop has ended by itself.
	LoopFailed struct{ Problem string }
	// FilesHang: a file system does not answer, and the broker ends without it.
	FilesHang struct{}
	// Unwatched: there is no watch on files, and each Hello asks for their state.
	Unwatched struct{ Problem string }

	// SocketUnwatched: there is no watch on the socket's name, which is looked at now and then.
	SocketUnwatched struct{ Problem string }
	// SocketReplaced: the socket's name leads elsewhere.
	SocketReplaced struct{ Problem string }
	// SocketUnknown: where the name leads can't be told.
	SocketUnknown struct{ Problem string }
	// SocketKnown: it can again.
	SocketKnown struct{}
	// SocketKept: the name could not be removed.
	SocketKept struct{ Problem string }
	// Listening: connections to Path are taken for Service.
	Listening struct{ Service, Path string }
	// ListenFailed: they can't be yet.
	ListenFailed struct{ Service, Path, Problem string }
	// ListenEnded: they are not any more.
	ListenEnded struct{ Service, Path string }
	// PipesRemoved: so many pipes of backends that are gone were removed.
	PipesRemoved struct{ Pipes int }
)

// Connections.
type (
	// AcceptFailed: a connection could not be accepted.
	AcceptFailed struct {
		Problem       string
		Again         bool // the one before failed too, or room has been made for the next
		NoDescriptors bool // for want of descriptors
		Every         time.Duration
	}
	// PeerDropped: a connection of another user was closed unread.
	PeerDropped struct{ Problem string }
	// Refused: a client gets no backend.
	Refused struct {
		Code    string
		Reason  string
		Service string // that it asked for; "" where that was not looked at
		PID     int
		Unread  bool // over the bounds: nothing was read from it
	}
	// ClientGone: a client left before its answer.
	ClientGone struct{ PID int }
	// AnswerLost: an answer could not be written for another reason.
	AnswerLost struct {
		PID     int
		Problem string
	}
	// AdminMalformed: an admin request could not be understood.
	AdminMalformed struct {
		PID     int
		Problem string
	}
	// Waited: a client began to wait for a backend that is expected.
	Waited struct{ Service, Version string }
	// NotOffered: a handoff was not tried.
	NotOffered struct {
		ConnectionID    uint64
		Service, Reason string
	}
	// Reconnected: a client was sent to a backend's pipe.
	Reconnected struct{ ConnectionID uint64 }
	// Done: a connection has ended. It is told only where somebody reads the debug log.
	Done struct{ Steps []Step }
	// Bug: something happened that must not.
	Bug struct {
		ConnectionID uint64
		Problem      string
	}
)

// Step is when a connection passed a step of its life.
type Step struct {
	Name string
	At   time.Time
}

// Handoffs.
type (
	// Handoff is the outcome of one attempt; the fields are those of handoff.Outcome.
	Handoff struct {
		ConnectionID           uint64
		Backend                Backend
		Verdict, Stage, Reason string
		FDReachedBackend       bool
		LeakedBackendHandle    uint64
		Rejected, Late         bool
		Waited                 time.Duration
		Problem                string
	}
	// Retried: a connection that was not taken is offered to another instance.
	Retried struct{ ConnectionID uint64 }
	// ProvenUnread: a backend has died that adopted, and had not read the request.
	ProvenUnread struct {
		ConnectionID uint64
		PID          int
	}
	// NoToken: no attempt could begin.
	NoToken struct{ Problem string }
	// ReadyLost: the event that follows an acknowledgement of a v1 backend could not
	// be written.
	ReadyLost struct{ Problem string }
)

// Backends.
type (
	// BackendTaken: a backend of the broker before this one goes on with its channel.
	BackendTaken struct{ Backend Backend }
	// Registered: a backend has its channel.
	Registered struct{ Backend Backend }
	// RegistrationRefused: a backend may not have one.
	RegistrationRefused struct {
		Backend Backend
		Problem string
	}
	// RegistrationFailed: a backend that may could not be given one.
	RegistrationFailed struct {
		Backend Backend
		Problem string
	}
	// RegistrationMalformed: a registration could not be understood.
	RegistrationMalformed struct {
		PID     int
		Problem string
	}
	// PageMissing: a backend gets no page of claims.
	PageMissing struct {
		PID     int
		Problem string
	}
	// ChannelEnded: a backend's channel is closed.
	ChannelEnded struct {
		PID    int
		Strays uint64 // answers on it for which nobody waited
		// Unknown are messages on it of kinds that the broker does not know.
		Unknown uint64
		Fault   string // what the backend did wrong; empty for nothing
	}
	// Exited: a backend's process has ended; Exit says how, where that is known, and
	// Clean that it did so by itself, and said so.
	Exited struct {
		Backend Backend
		Exit    string
		Clean   bool
	}
	// Left: a backend has closed its channel, and lives on.
	Left struct{ Backend Backend }
	// Started: an instance was started, and logs to Log.
	Started struct {
		Backend Backend
		Variant string
		Log     string
	}
	// Ready: it has said so, so long after it was asked for.
	Ready struct {
		Backend Backend
		After   time.Duration
	}
	// StartFailed: it could not be started, or did not become ready.
	StartFailed struct {
		Backend Backend
		Variant string
		Problem string
	}
	// Relayed: a connection is joined to one of its own to a backend.
	Relayed struct {
		ConnectionID uint64
		Backend      Backend
	}
	// ProcessStarted: a process was started that one connection has to itself, and logs to
	// Log; or, with a Problem, it could not be.
	ProcessStarted struct {
		ConnectionID uint64
		Backend      Backend
		Log          string
		Problem      string
	}
	// ProcessEnded: a process has ended that one connection had to itself. Failed says that
	// its exit tells of a failure.
	ProcessEnded struct {
		Backend Backend
		Exit    string
		Failed  bool
	}
	// LetGo: a backend was told to serve what it has, and to end; Why is one of the reasons
	// below.
	LetGo struct {
		Backend Backend
		Why     string
	}
	// Busy: a backend has had no connection for its idle time, and stays, for it is at work.
	Busy struct{ Backend Backend }
	// Paused: the clients of a service wait from here on; an empty version is every one.
	Paused struct{ Service, Version string }
	// Resumed: they do no longer, and so many have waited.
	Resumed struct {
		Service, Version string
		Waited           int
	}
	// LogUnbounded: an instance's log can't be kept within its bound.
	LogUnbounded struct{ Log, Problem string }
	// StaticFound: a static backend is there.
	StaticFound struct{ Backend Backend }
	// StaticMissing: it is not.
	StaticMissing struct {
		Service, Pipe string
		Problem       string
	}
)

// Why a backend was let go.
const (
	Idle     = "idle"
	AtWill   = "stopped"
	Replaced = "replaced"
)

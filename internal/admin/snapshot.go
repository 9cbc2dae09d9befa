package admin

import (
	"cmp"
	"slices"
	"time"

	"github.com/seed-7265657e/usher/internal/usage"
)

// Snapshot is what the broker knows about itself at one moment. Answer does not
// change it.
type Snapshot struct {
	Now             time.Time
	Instance        string // instance id, or "local" for a tool without a broker
	PID             int
	Uptime          time.Duration // since serving began
	Accepting       bool          // takes new Hellos: neither short of descriptors nor draining
	ConnectionsOpen int
	FDDemoted       bool    // short of file descriptors
	FDUsage         float64 // open descriptors, as a part of how many there may be; 0 where the system doesn't tell
	SocketPath      string

	ServiceDefDir       string
	ServiceDefDirSource string // as endpoint.ServiceDefinitionDir names it

	System   System
	Inodes   usage.Inodes // of the file system of the state directory
	Backends []Backend
	LogDir   string // where instances that the broker starts log to
	// Instances are those of Backends that are processes known here, those that are being
	// started, and those that drain.
	Instances []Instance
	Paused    []Paused
	Processes []Processes
	Relays    Relays
	Handoffs  Handoffs
	Clients   Clients
}

// Backend is one row of the registry. Times are Unix milliseconds.
type Backend struct {
	Service      string
	Version      string
	PID          int
	Pipe         string
	LastActiveMS int64
	LastHelloMS  int64  // 0: no client was sent there yet
	LastError    string // empty: none
	Stale        bool   // its process is gone
	OtherBuild   bool   // it runs another build than the definition names now, so no client gets it
	Silent       bool   // it left an offer unanswered, and has not answered since
}

func (b Backend) state() string {
	if b.Stale {
		return "stale"
	}
	return "running"
}

// System says what the broker relies on here, the best first.
type System struct {
	Processes string // how processes are held on to: "pidfd", "pid and start time", "none"
	Claims    string // what a claim is at best: "page", "eventfd", "pipe", "none"

	Without []string // what the system lacks, for people
}

// Handoffs counts attempts by outcome since serving began.
type Handoffs struct {
	Adopted  uint64
	NotTaken uint64 // the broker took the claim back
	Unknown  uint64 // a v1 backend that did not acknowledge
	LateAck  uint64 // adopted, and the acknowledgement came after the deadline
	Retried  uint64 // sent to another instance after it was not taken
	StrayAck uint64 // answers to handoffs that nobody waited for any more
	// UnknownMessages counts what backends said on their channels that this broker does
	// not know, and ignored.
	UnknownMessages uint64
	// ProvenUnread counts adoptions by a backend that died before it read the request,
	// whose client was sent on with it.
	ProvenUnread uint64
	// Fallbacks counts attempts without an acknowledgement in time.
	Fallbacks []Fallback
}

// Fallback counts the attempts that ended in one stage for one reason.
type Fallback struct {
	Stage, Reason string
	Count         uint64
}

// Clients counts what became of connections beside handoffs, since serving
// began.
type Clients struct {
	Reconnected    uint64 // sent to the backend's pipe
	Waited         uint64 // for a backend that was expected
	Gone           uint64 // left before their answer
	Foreign        uint64 // dropped unread: another user
	AcceptFailures uint64 // for want of descriptors
	Refused        map[string]uint64
}

// rows returns the backends in the order in which replies show them.
func (s *Snapshot) rows() []Backend {
	return slices.SortedFunc(slices.Values(s.Backends), func(a, b Backend) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Version, b.Version), cmp.Compare(a.PID, b.PID))
	})
}

package broker

import (
	"context"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/admin"
	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/eventlog"
	"github.com/seed-7265657e/usher/internal/filehash"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/launch"
	"github.com/seed-7265657e/usher/internal/loop"
	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/registry"
	"github.com/seed-7265657e/usher/internal/watch"
	"github.com/seed-7265657e/usher/internal/window"
)

// server is what a broker keeps while it serves. A connection whose definition has not
// changed lives its whole life on the event loop: accept, hello, resolve, issue, send,
// acknowledge. What could block (disk, a v1 backend, an admin client's answer) is a job
// on a goroutine of its own, which takes values and posts its result (job.go).
//
// All state is the loop's, so it has no locks. Once the loop has ended it is that of
// Serve's goroutine (jobs.asOwner).
type server struct {
	// These don't change, and may be read on any goroutine.
	opts    Options
	binding *endpoint.Binding
	started time.Time
	system  admin.System
	uid     int              // whose clients and backends are served
	now     func() time.Time // the handoffs' clock: time.Now unless a test replaces it
	files   files            // for jobs

	loop      *loop.Loop
	jobs      jobs
	shutDown  context.CancelCauseFunc // has Serve drain and return; on any goroutine; set by Serve
	draining  bool                    // every new Hello is refused
	upgrading sync.Mutex              // held by whoever upgrades, and for good once that is done
	successor *successor              // in whose favour it drains; nil where there is none
	replacing replacing               // what an upgrade under way has put off
	newer     newer                   // builds of clients that this broker gave way to, or tried to

	// Connections without a verdict: step 1.
	acceptor  *loop.Acceptor
	plain     map[string]*plainSocket // by path
	opens     chan struct{}           // closed when it has begun, with the sockets that it was given
	given     []*plainSocket          // by a predecessor, until then
	programs  []*entry                // likewise
	broken    error                   // why it must not begin: something that was given is lost
	left      []*plainSocket          // to a successor
	conns     connections
	admission admission
	pressure  pressure
	large     largeFrames

	// Steps 2 to 4.
	hellos      *hello.Limiter
	definitions definitions
	backends    registry.Registry[*backend]
	waiting     waiting
	since       time.Time // when it began to accept
	begun       bool      // it has
	starts      starts
	logs        logs
	leaving     map[*entry]bool            // those that are let go, until their process has ended
	paused      map[registry.Key]time.Time // since when; the version is empty for every one
	controls    map[*connection]bool       // service verbs that wait for instances
	orphans     orphans
	processes   processes
	kept        map[string]*kept // by service
	joined      joined
	looped      map[*relayed]bool // those that are relayed, and the loop moves
	aliveAt     time.Time         // when the supervisor is told next that the loop runs
	quietSince  time.Time         // since when there has been nothing to do; zero while there is
	asked       bool              // a Hello has come

	// Steps 5 to 9.
	lastConnID uint64
	handoffs   *handoff.Table // in flight
	inFlight   map[string]int // the same, counted by service
	policy     *handoff.Policy
	attempts   *window.Counter[string] // by service: the label handoff.max_attempts_per_minute

	// Who takes in the facts: see emit.
	log      event.Log
	counters counters
	events   *eventlog.Writer // nil where none are kept
}

// means is what the broker relies on here.
func means() admin.System {
	return admin.System{
		Processes: peer.Means(), Claims: claim.Means(),
		Without: slices.Concat(watch.Lacks(), peer.Lacks(), endpoint.Lacks(), launch.Lacks()),
	}
}

func newServer(opts Options, binding *endpoint.Binding, log event.Log) (*server, error) {
	s := &server{
		opts:        opts,
		binding:     binding,
		started:     time.Now(),
		system:      means(),
		uid:         os.Geteuid(),
		now:         time.Now,
		files:       files{dir: opts.DefinitionDir, hashes: new(filehash.Cache)},
		admission:   admission{total: opts.MaxHandshakes, perPeer: opts.MaxHandshakesPerPeer},
		hellos:      hello.NewLimiter(opts.HelloRate, hello.DefaultRateWindow),
		definitions: definitions{dir: opts.DefinitionDir},
		waiting:     newWaiting(opts),
		starts:      newStarts(),
		opens:       make(chan struct{}),
		leaving:     make(map[*entry]bool),
		paused:      make(map[registry.Key]time.Time),
		controls:    make(map[*connection]bool),
		logs:        logs{writers: make(map[string]int)},
		processes:   newProcesses(),
		kept:        make(map[string]*kept),
		looped:      make(map[*relayed]bool),
		handoffs:    handoff.NewTable(handoffConfig(opts)),
		inFlight:    make(map[string]int),
		policy:      handoff.NewPolicy(handoff.DefaultPolicyConfig()),
		attempts:    window.New[string](time.Minute),
		log:         log,
	}
	var err error
	if s.loop, err = loop.New(s.tick, s.collectAcks); err != nil {
		return nil, err
	}
	s.jobs = newJobs(s.loop)
	if err = s.listen(); err != nil {
		s.loop.Close()
		return nil, err
	}
	if opts.Events != "" {
		s.events = eventlog.NewWriter(opts.Events, opts.Instance, opts.Logger)
	}
	if err := s.definitions.open(); err != nil {
		s.emit(event.Unwatched{Problem: err.Error()})
	}
	return s, nil
}

// handoffConfig lets as many attempts be pending as handoffs may be in flight.
func handoffConfig(opts Options) handoff.Config {
	config := handoff.DefaultConfig()
	config.MaxPending = max(config.MaxPending, opts.MaxHandshakes)
	return config
}

// emit makes a fact known. Each happens in one place, which calls this once.
func (s *server) emit(e event.Event) {
	s.counters.note(e)
	s.log.Note(e)
	if s.events != nil {
		s.events.Note(e)
	}
}

// tick does what is due, and says when it wants to look again.
func (s *server) tick(now time.Time) (next time.Time) {
	if s.collectAcks(); s.handoffs.Pending() > 0 {
		next = now.Add(ackCheck)
	}
	next = loop.Earlier(next, s.acceptor.Tick(now))
	for _, p := range s.plain {
		next = loop.Earlier(next, p.acceptor.Tick(now))
	}
	next = loop.Earlier(next, s.large.free(now, &s.jobs))
	next = loop.Earlier(next, s.tickOrphans(now))
	next = loop.Earlier(next, s.tickStarts(now))
	next = loop.Earlier(next, s.tickLogs(now))
	next = loop.Earlier(next, s.tickKept(now))
	next = loop.Earlier(next, s.tickIdle(now))
	next = loop.Earlier(next, s.tellAlive(now))
	var overdue []*connection
	s.conns.each(func(c *connection) {
		switch end := c.expires(); {
		case end.IsZero():
		case now.Before(end):
			next = loop.Earlier(next, end)
		default:
			overdue = append(overdue, c)
		}
	})
	for _, c := range overdue {
		c.overdue()
	}
	return next
}

// ackCheck is how often the loop looks for ACKs in pages when nothing else wakes it.
// Nobody waits for it but the broker's own copy of a connection.
const ackCheck = 10 * time.Millisecond

// abandon ends every wait at once: the end of draining.
func (s *server) abandon() {
	for _, c := range s.conns.all() {
		c.abort()
	}
}

// abandonReaders ends the connections whose files could not be read to the end. Their
// jobs find nobody when they come back.
func (s *server) abandonReaders() {
	for _, c := range s.conns.all() {
		if c.reclaim() {
			c.refuse(nil, hello.ShuttingDown())
		}
		c.close()
	}
}

// largeFrames are first frames that no Hello needs. A crowd of large ones leaves memory
// with the process that nobody needs again; an idle process would keep it for minutes.
type largeFrames struct {
	bytes int       // that have ended since then
	freed time.Time // when memory was last given back
}

const (
	// largeFrame is what counts as a large first frame, in bytes: no Hello is.
	largeFrame = 8 << 10
	// freeAbove is from how many bytes of them on their memory is given back, and
	// freeEvery how often at most, for it costs a collection.
	freeAbove = 16 << 20
	freeEvery = time.Second
)

// ended notes that a connection ended whose first frame took n bytes, and returns when
// to give memory back.
func (l *largeFrames) ended(n int) (due time.Time) {
	if n < largeFrame {
		return time.Time{}
	}
	if l.bytes += n; l.bytes < freeAbove {
		return time.Time{}
	}
	return l.freed.Add(freeEvery)
}

// free gives back what has ended, and returns when to look again.
func (l *largeFrames) free(now time.Time, jobs *jobs) (next time.Time) {
	if l.bytes < freeAbove {
		return time.Time{}
	}
	if due := l.freed.Add(freeEvery); now.Before(due) {
		return due
	}
	l.bytes, l.freed = 0, now
	jobs.wg.Go(debug.FreeOSMemory)
	return time.Time{}
}

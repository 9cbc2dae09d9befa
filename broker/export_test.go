package broker

import (
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/filehash"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/watch"
)

// ask calls f on the loop, or here once that has ended, and waits for it.
func ask[T any](b *Broker, f func(*server) T) (answer T) {
	b.server.jobs.asOwner(func() { answer = f(b.server) })
	return answer
}

// RefuseSocketWatch is a system that has no watch for the socket's name, until again.
func RefuseSocketWatch() (again func()) {
	newSocketWatch = func() (*watch.Waiter, error) { return nil, errors.ErrUnsupported }
	return func() { newSocketWatch = watch.NewWaiter }
}

// SetProofTime changes until again how long the proof waits for a death.
func SetProofTime(d time.Duration) (again func()) {
	before := proofTime
	proofTime = d
	return func() { proofTime = before }
}

// Demote puts the broker into its state of descriptor shortage.
func (b *Broker) Demote() { ask(b, func(s *server) bool { return s.pressure.failed(syscall.EMFILE) }) }

// Backends returns how many backends are in the registry.
func (b *Broker) Backends() int { return ask(b, func(s *server) int { return s.backends.Len() }) }

// Processes returns how many processes there are that have a connection to themselves.
func (b *Broker) Processes() int { return ask(b, func(s *server) int { return s.processes.all }) }

// ProcessesRunning returns how many of them have not ended.
func (b *Broker) ProcessesRunning() int {
	return ask(b, func(s *server) int { return len(s.processes.running) })
}

// Relays returns how many connections are relayed.
func (b *Broker) Relays() int { return ask(b, func(s *server) int { return s.joined.relays }) }

// Kept identifies what is kept open for a service; nil where nothing is.
func (b *Broker) Kept(service string) any {
	return ask(b, func(s *server) any {
		if k := s.kept[service]; k != nil {
			return k
		}
		return nil
	})
}

// Logged reports whether what is kept with log, which was opened at path, is used for the next
// process.
func Logged(log *os.File, path string) bool {
	_, ok := newKept(new(program), log, path).logged()
	return ok
}

// NobodyCame is what happens when nobody has come to any service for long.
func (b *Broker) NobodyCame() {
	ask(b, func(s *server) time.Time { return s.tickKept(time.Now().Add(keptFor)) })
}

// Looped returns how many of them the loop moves.
func (b *Broker) Looped() int { return ask(b, func(s *server) int { return len(s.looped) }) }

// Watches reports whether the broker looks who comes to the socket of a service at path.
func (b *Broker) Watches(path string) bool {
	return ask(b, func(s *server) bool {
		p := s.plain[path]
		if p == nil {
			return false
		}
		if s.loop.Add(p.acceptor.Listener, func() {}) != nil { // it is in the set
			return true
		}
		s.loop.Remove(p.acceptor.Listener)
		return false
	})
}

// Plain returns how many sockets of services it has.
func (b *Broker) Plain() int { return ask(b, func(s *server) int { return len(s.plain) }) }

// Known reports whether the definition of a service is in the cache.
func (b *Broker) Known(service string) bool {
	return ask(b, func(s *server) bool { return s.definitions.lookup(service, time.Now()) != nil })
}

// HoldLoop keeps the loop from going on until release is called.
func (b *Broker) HoldLoop() (release func()) {
	held, released := make(chan struct{}), make(chan struct{})
	b.server.loop.Post(func() {
		close(held)
		<-released
	})
	<-held
	return func() { close(released) }
}

// SetHelloTimeout has connections that are accepted from now on have so much time. What a
// test needs first, say a registration, whose binary is hashed, has the time that it takes.
func (b *Broker) SetHelloTimeout(d time.Duration) {
	ask(b, func(s *server) bool { s.opts.HelloTimeout = d; return true })
}

// AckOverdue ends the time that backends have for the offers that are under way.
func (b *Broker) AckOverdue() {
	ask(b, func(s *server) bool {
		now := time.Now()
		s.conns.each(func(c *connection) {
			if c.phase == phaseOffered {
				c.deadline = now
			}
		})
		s.loop.WakeAt(now)
		return true
	})
}

// Pending returns what is under way: connections without a verdict, and handoffs, with
// the services that one is counted for.
func (b *Broker) Pending() (connections, handoffs int) {
	pending := ask(b, func(s *server) [2]int { return [...]int{s.conns.open, s.handoffs.Pending() + len(s.inFlight)} })
	return pending[0], pending[1]
}

// Draining reports whether the broker has begun to drain.
func (b *Broker) Draining() bool { return ask(b, func(s *server) bool { return s.draining }) }

// Cached reports whether a service's definition is in the cache, and every way to its
// files watched.
func (b *Broker) Cached(service string) bool {
	return ask(b, func(s *server) bool {
		c := s.definitions.known[service]
		return c != nil && c.watched
	})
}

// EndWatch ends the watch on files, as if the system had none. Call it before Serve.
func (b *Broker) EndWatch() { b.server.definitions.close() }

// LookDue reports whether logs of instances will be looked at.
func (b *Broker) LookDue() bool {
	return ask(b, func(s *server) bool { return !s.logs.lookAt.IsZero() })
}

// Handshakes returns how many connections count against the bounds.
func (b *Broker) Handshakes() int { return ask(b, func(s *server) int { return s.admission.all }) }

// AdvanceClock lets a test move the handoffs' clock forward. Call it before Serve.
func (b *Broker) AdvanceClock() (forward func(time.Duration)) {
	var ahead atomic.Int64
	b.server.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	return func(d time.Duration) { ahead.Store(int64(d)) }
}

// StopLoop ends the event loop as if it had failed, and waits for that.
func (b *Broker) StopLoop() {
	b.server.loop.Stop()
	for b.server.loop.Post(func() {}) {
	}
}

// Controls returns how many service verbs wait for instances.
func (b *Broker) Controls() int { return ask(b, func(s *server) int { return len(s.controls) }) }

// Begun reports whether the broker accepts clients, or has.
func (b *Broker) Begun() bool { return ask(b, func(s *server) bool { return s.begun }) }

// Pause has the broker accept nobody any more.
func (b *Broker) Pause() { ask(b, func(s *server) bool { s.acceptor.Stop(); return true }) }

// Waits returns how often a client began to wait for a backend.
func (b *Broker) Waits() uint64 {
	return ask(b, func(s *server) uint64 { return s.counters.clients.Waited })
}

// Launched reports whether an instance runs that is not ready.
func (b *Broker) Launched() bool {
	return ask(b, func(s *server) bool {
		for _, starting := range s.starts.pending {
			if starting.process != nil {
				return true
			}
		}
		return false
	})
}

// KeepWaiting has instances that are awaited come as late as they like.
func (b *Broker) KeepWaiting() {
	ask(b, func(s *server) bool {
		if !s.orphans.by.IsZero() {
			s.orphans.by = time.Now().Add(time.Hour)
		}
		return true
	})
}

// Age has the broker be as old as one is for whose backends nobody waits because it is new.
func (b *Broker) Age() {
	ask(b, func(s *server) bool { s.since = s.since.Add(-s.waiting.time); return true })
}

// OrphansAwaited reports whether instances of an earlier broker may still register.
func (b *Broker) OrphansAwaited() bool {
	return ask(b, func(s *server) bool { return s.orphans.awaited(time.Now()) })
}

// WaitForOrphans returns how many requests wait for instances of an earlier broker.
func (b *Broker) WaitForOrphans() int {
	return ask(b, func(s *server) int { return len(s.orphans.then) })
}

// LogsInUse are the logs that must stay for a service.
func (b *Broker) LogsInUse(service string) map[string]bool {
	return ask(b, func(s *server) map[string]bool { return s.logsInUse(service) })
}

// OpenProgram opens the program at path as a start does, and returns what it took its build
// for, and what it opened.
func OpenProgram(ctx context.Context, path string) (build [32]byte, content []byte, err error) {
	p := &program{path: path}
	defer p.close()
	if err := p.open(ctx, new(filehash.Cache)); err != nil {
		return build, nil, err
	}
	if _, err = p.file.Seek(0, io.SeekStart); err == nil {
		content, err = io.ReadAll(p.file)
	}
	return p.build, content, err
}

// Offered reports whether a successor has been told that it may begin, and has not been heard.
func (b *Broker) Offered() bool {
	return ask(b, func(s *server) bool { return s.replacing.underWay && s.replacing.started == nil && s.successor == nil })
}

// UpgradeAsked reports whether a successor could serve, and waits for nothing but what is being
// started.
func (b *Broker) UpgradeAsked() bool {
	return ask(b, func(s *server) bool { return s.replacing.underWay })
}

// ProgramsOffered returns how many programs without a channel are offered to a successor.
func (b *Broker) ProgramsOffered() int {
	return ask(b, func(s *server) (n int) {
		for _, e := range s.backends.All() {
			if e.Handle.offered {
				n++
			}
		}
		return n
	})
}

// OfferPrograms offers programs without a channel to the successor at the other end of ch.
func (b *Broker) OfferPrograms(ch *sock.Channel) error {
	return ask(b, func(s *server) error {
		return s.offerPrograms(&successor{channel: ch, can: frame.CapPrograms})
	})
}

// ProgramsGiven returns how many programs a predecessor has given to a broker that has not begun.
func (b *Broker) ProgramsGiven() int { return ask(b, func(s *server) int { return len(s.programs) }) }

// Stays reports whether the broker has drained, and stays for connections whose bytes pass through it.
func (b *Broker) Stays() bool { return ask(b, func(s *server) bool { return s.joined.over != nil }) }

// Joined returns how many connections have their bytes pass through the broker.
func (b *Broker) Joined() int {
	return ask(b, func(s *server) int { return s.joined.relays + s.joined.pipes })
}

// EndPutOff reports whether the broker is to end as soon as it is known who serves.
func (b *Broker) EndPutOff() bool {
	return ask(b, func(s *server) bool { return s.replacing.awaited })
}

// PutOff returns how much an upgrade has put off.
func (b *Broker) PutOff() int {
	return ask(b, func(s *server) int {
		n := len(s.replacing.then)
		for _, all := range s.waiting.connections {
			n += len(all)
		}
		return n
	})
}

// Starts returns how many instances are being started.
func (b *Broker) Starts() int { return ask(b, func(s *server) int { return len(s.starts.pending) }) }

// StartsVersion reports whether an instance of a version is being started.
func (b *Broker) StartsVersion(version string) bool {
	return ask(b, func(s *server) bool {
		for key := range s.starts.pending {
			if key.Version == version {
				return true
			}
		}
		return false
	})
}

// Paused returns how many services are paused.
func (b *Broker) Paused() int { return ask(b, func(s *server) int { return len(s.paused) }) }

// TakenBy waits until the successor at the other end of ch begins, whose process end ends;
// withdraw reports whether it may still be told not to.
func TakenBy(ctx context.Context, ch *sock.Channel, end func(), withdraw func() bool) error {
	return (&successor{channel: ch, can: frame.CapTaken, end: end}).taken(ctx, withdraw)
}

// UpgradeUnderWay is an upgrade that lasts until its end is called.
func (b *Broker) UpgradeUnderWay() (end func()) {
	b.server.upgrading.Lock()
	return b.server.upgrading.Unlock
}

// Consider is a client of a newer build, which is in file.
func (b *Broker) Consider(version string, file *os.File) {
	p := &program{path: file.Name(), file: file, image: image{id: "newer"}}
	ask(b, func(s *server) bool { s.considerUpgrade(version, p); return true })
}

// Tried returns how many newer builds were tried.
func (b *Broker) Tried() int { return ask(b, func(s *server) int { return len(s.newer.tried) }) }

// LogsWatched returns how many logs of instances are kept within their bound.
func (b *Broker) LogsWatched() int { return ask(b, func(s *server) int { return len(s.logs.writers) }) }

// Leaving returns how many instances drain.
func (b *Broker) Leaving() int { return ask(b, func(s *server) int { return len(s.leaving) }) }

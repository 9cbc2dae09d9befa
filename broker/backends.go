package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/launch"
	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/registry"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/transport"
	"github.com/seed-7265657e/usher/internal/wire"
)

// backend is the broker's means to reach one backend process. It is the loop's.
type backend struct {
	process *peer.Process      // may be used on any goroutine
	channel *transport.Channel // nil for a backend of plain v1
	v1      *transport.V1      // its handoff endpoint; nil without one

	listens  bool            // a program with a listener of its own, which ends with the broker
	local    bool            // its socket's path waits for this machine alone
	address  string          // where that listens; empty for one that accepts from socket
	socket   *plainSocket    // that it accepts from in the broker's place; nil for others
	program  *launch.Process // of one that was started here and has no channel: signals end it; nil for others
	alone    bool            // a process with one connection to itself, which is never in the registry
	joined   bool            // to that by pipes
	over     chan struct{}   // closed when the program at address has ended; nil for others
	exited   bool            // the process has been seen to end
	retired  bool            // the channel has
	passed   bool            // it is a successor's, or the channel is on its way there: nothing is to be said or read on it here
	offered  bool            // a successor knows of the program, and goes on with it when it begins
	inFlight int             // handoffs to it
	relayed  int             // connections that are relayed to it
	own      *ownInstance    // what it was started for; nil for a backend of a defined service
	left     chan left       // tells watchProcess, once, that the channel has been retired
	proofs   sync.WaitGroup  // those that wait for the end of the process: watchProcess keeps its handle for them

	log        string // of one that a broker has started; else empty
	child      bool   // it was this one: awaitExit sees its end
	takesNotes bool   // the backend knows notes: it can be told to drain, and tells its connections
	letGo      bool   // it is to get no connection any more
	drainOwed  bool   // and its channel was full when it was to be told
	active     uint64 // connections, by its own word
	idleSince  time.Time
	busy       bool // it has none, and is at work all the same, by its own word

	// renews are older registrations of the same process and version whose pipe is gone:
	// they end when the backend has seen this one, and take no place beside it.
	renews []*entry

	// Of a program that passes to a successor, or has passed from a predecessor.
	listen                 string   // the path of its socket, until that is found
	joinedOver, joinedHold *os.File // see shareJoined; nil where there is none, or it is another broker's

	// silent is 0, or one more than the late answers the backend had given when it
	// got the last offer that it left unanswered.
	silent uint64
}

// newBackend is that of a process that serves already, or, with nil, of one that is to be
// started.
func newBackend(process *peer.Process, own *ownInstance) *backend {
	return &backend{process: process, own: own, idleSince: time.Now()}
}

// left says how a backend's channel was retired.
type left struct {
	draining bool // the broker
	letGo    bool // the backend
}

// lateAnswers counts what the backend has answered when nobody waited any more.
func (b *backend) lateAnswers() uint64 {
	if b.channel == nil {
		return 0
	}
	return b.channel.Strays().Late
}

// markSilent notes that the backend left an offer unanswered until its deadline;
// before is what lateAnswers said when it got the offer.
func (b *backend) markSilent(before uint64) { b.silent = before + 1 }

// markAnswered notes that the backend answered in time.
func (b *backend) markAnswered() { b.silent = 0 }

// sound reports whether the backend has not been found silent, or has answered
// since: a frozen one answers late what it slept through, once it wakes up.
func (b *backend) sound() bool { return b.silent == 0 || b.lateAnswers() >= b.silent }

// gone reports whether the process has been seen to end. One whose end nobody has
// seen yet has lost its channel, which says so when something is sent.
func (b *backend) gone() bool {
	if b.channel == nil {
		return b.exited || !b.process.Alive()
	}
	return b.exited
}

// hasProcess is false for the stand-in of a program that has a process for each connection.
func (b *backend) hasProcess() bool { return b.process != nil }

// seenAlive asks whether the process lives, and remembers its end.
func (b *backend) seenAlive() bool {
	alive := !b.hasProcess() || b.process.Alive()
	b.exited = b.exited || !alive
	return alive
}

// vacate says that the program has ended which listened at address, or is not going to.
func (b *backend) vacate() {
	if b.over != nil {
		close(b.over)
	}
}

// claims reports whether a handoff to the backend is decided by a claim.
func (b *backend) claims() bool { return b.channel != nil }

// errUnverified begins every refusal of a registration: the process is not what
// the service definition calls for.
var errUnverified = errors.New("backend not verified")

// verification is the result of the job that verifies a registration.
type verification struct {
	entry    *entry
	err      error
	shortage bool // of descriptors
}

// registrant is a process that registers, as the loop knows it.
type registrant struct {
	req  *wire.Register
	conn *sock.Conn
	pid  int
	own  []*entry // what this process has registered already
}

// verify makes an entry of a registering process: its user was checked at
// accept, its pid is pinned, and its executable must be the build that the
// definition names. The caller closes the entry's process.
func (f files) verify(ctx context.Context, r registrant) verification {
	if len(r.req.OwnBuild) > 0 {
		return verifyOwnBuild(r)
	}
	loaded, err := service.Load(f.dir, r.req.ServiceName)
	if err != nil {
		shortage := noDescriptor(err)
		err = fmt.Errorf("%w: service %q: %s", errUnverified, r.req.ServiceName, unreadable(err).Reason)
		return verification{err: err, shortage: shortage}
	}
	e, err := f.verifyAgainst(ctx, loaded, r)
	if err != nil {
		return verification{err: fmt.Errorf("%w: %w", errUnverified, err)}
	}
	e.Handle.renews = renewed(e, r.own)
	return verification{entry: e}
}

func (f files) verifyAgainst(ctx context.Context, d *service.Definition, r registrant) (*entry, error) {
	instance, err := d.Instance()
	if err != nil {
		return nil, fmt.Errorf("service %q: %w", r.req.ServiceName, err)
	}
	if err := ownSocket(r.req.BackendPipe, r.pid); err != nil {
		return nil, fmt.Errorf("backend pipe: %w", err)
	}
	process, err := peer.OpenProcess(r.conn)
	if err != nil {
		return nil, err
	}
	path, hash, err := f.executable(ctx, process)
	if err == nil {
		build, buildErr := f.hashes.Hash(ctx, d.BinaryPath)
		switch {
		case d.AllowsExecutable(path, hash, build):
		case buildErr != nil:
			err = fmt.Errorf("it runs %s, and the build that the service is defined with is unknown: %w", path, buildErr)
		default:
			err = fmt.Errorf("it runs %s, but the service is defined with %s: define the service with this binary, or start that one",
				path, d.BinaryPath)
		}
	}
	if err != nil {
		process.Close()
		return nil, err
	}
	return &entry{
		Key: registry.Key{Instance: instance.String(), Service: r.req.ServiceName, Version: r.req.ServiceVersion},
		PID: process.PID(), ExePath: path, ExeHash: hash,
		Pipe: r.req.BackendPipe, Since: time.Now(), Handle: newBackend(process, nil),
	}, nil
}

// renewed are the registrations of e's process for the same version whose pipe is no
// more: its name was lost, and e brings the new one.
func renewed(e *entry, own []*entry) (gone []*entry) {
	for _, o := range own {
		if o.Key != e.Key || o.PID != e.PID || o.Pipe == e.Pipe {
			continue
		}
		if _, err := os.Lstat(o.Pipe); errors.Is(err, os.ErrNotExist) {
			gone = append(gone, o)
		}
	}
	return gone
}

// ownSocket checks the pipe that clients will be sent to: process pid, which named
// it, must listen there.
func ownSocket(path string, pid int) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%q is no absolute path", path)
	}
	if err := endpoint.CheckIsSocket(path); err != nil {
		return err
	}
	return endpoint.CheckServedBy(path, pid)
}

// watchBackend has e's channel served by the loop until channel or process ends.
// From then on the loop owns the channel, and watchProcess the process handle.
func (s *server) watchBackend(e *entry) {
	if err := s.loop.Add(e.Handle.channel.Watched(), func() { s.hear(e) }); err != nil {
		s.backendLeft(e, err)
	}
}

// hear reads one message of a backend's, if there is one.
func (s *server) hear(e *entry) {
	h := e.Handle
	attempt, ack, err := h.channel.Next()
	switch {
	case err != nil:
		s.backendLeft(e, transport.Blame(err))
	case attempt != nil:
		attempt.Owner.(*connection).answered(ack)
	}
	for _, note := range h.channel.TakeNotes() {
		s.heard(e, note)
	}
	if h.drainOwed { // it reads again
		s.sayDrain(h)
	}
}

// hearOut reads what a backend whose process has ended has said before: its ACKs may be
// messages.
func (s *server) hearOut(e *entry) {
	h := e.Handle
	if h.channel == nil {
		return
	}
	h.channel.Close()
	for !h.retired {
		s.hear(e)
	}
}

// backendLeft takes a backend whose channel has ended out of the registry, and
// settles what was offered to it. It happens once.
func (s *server) backendLeft(e *entry, fault error) {
	h := e.Handle
	if h.retired {
		return
	}
	h.retired = true
	s.backends.Remove(e)
	if !h.letGo { // else its successor has been expected since then
		s.waiting.expect(e.Key, time.Now())
	}
	if h.channel == nil { // of plain v1, or of a program that listens by itself
		s.takeBack(h.socket)
		s.lookIdle()
		return
	}
	s.loop.Remove(h.channel.Watched())
	if starting := s.starts.pending[e.Key]; h.child && !h.exited && (starting == nil || starting.entry != e) {
		s.leaving[e] = true // it has closed its channel by itself, and its process will be seen to end
	}
	for _, attempt := range h.channel.Retire() {
		attempt.Owner.(*connection).unanswered(handoff.ErrBackendGone)
	}
	ended := event.ChannelEnded{PID: e.PID, Strays: h.channel.Strays().Total(), Unknown: h.channel.UnknownMessages()}
	if fault != nil {
		ended.Fault = fault.Error()
	}
	s.emit(ended)
	h.left <- left{draining: s.draining || s.successor != nil, letGo: h.letGo}
	s.lookIdle()
}

// watchProcess ends e's channel when its process exits, and frees the process
// handle when both have ended. It is a goroutine of its own.
func (s *server) watchProcess(e *entry) {
	h := e.Handle
	ctx, cancel := context.WithCancel(context.Background())
	defer h.process.Close()
	exited, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		if h.process.Wait(ctx) == nil {
			close(exited)
			s.jobs.post(func() {
				h.exited = true
				h.channel.Close() // what it has sent is read first
				s.instanceEnded(e)
			})
		}
	}()
	channel := <-h.left
	if channel.letGo { // it serves what it has, and somebody may want to see that
		select {
		case <-exited:
		case <-s.jobs.work.Done():
			channel.draining = true
		}
	}
	if !channel.draining { // a draining broker has closed the channel itself
		s.removeDead(e, exited)
	}
	cancel()
	<-watched
	h.proofs.Wait()
	if h.log != "" {
		s.jobs.post(func() { s.unwatchLog(h.log) })
	}
}

// exitGrace is how long after its channel a process takes to be seen as exited.
const exitGrace = 200 * time.Millisecond

// removeDead removes the pipe of a backend whose process is gone, so that nobody dials
// a dead name.
func (s *server) removeDead(e *entry, exited <-chan struct{}) {
	timer := time.NewTimer(exitGrace)
	defer timer.Stop()
	select {
	case <-exited:
		s.jobs.post(func() { s.emit(event.Exited{Backend: known(e)}) })
		endpoint.RemoveDead(e.Pipe)
	case <-timer.C:
		s.jobs.post(func() { s.emit(event.Left{Backend: known(e)}) })
	}
}

// known is a backend as events name it.
func known(e *entry) event.Backend {
	return event.Backend{Service: e.Service, Version: e.Version, PID: e.PID, Pipe: e.Pipe}
}

// closeBackends ends every channel. The backends live on, and register with the
// next broker.
func (s *server) closeBackends() {
	for _, starting := range s.starts.pending {
		s.backendLeft(starting.entry, nil)
	}
	all := slices.AppendSeq(s.backends.All(), maps.Keys(s.leaving))
	for _, e := range all {
		if h := e.Handle; h.channel != nil && !h.retired {
			s.backendLeft(e, nil)
		}
	}
}

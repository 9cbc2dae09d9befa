package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/registry"
	"github.com/seed-7265657e/usher/internal/unixconn"
	"github.com/seed-7265657e/usher/internal/wire"
)

// backend is the broker's means to reach one backend process.
type backend struct {
	process *peer.Process
	channel *handoff.Channel // nil for a static v1 backend
	v1      *handoff.V1      // its handoff endpoint; nil without one

	// Of a backend with a channel; nil otherwise.
	exited chan struct{} // closed when the process has been seen to end
	left   chan struct{} // closed when the channel has been retired

	retired bool // the loop's

	// renews are older registrations of the same process and version whose pipe is gone:
	// they end when the backend has seen this one, and take no place beside it.
	renews []*entry

	// silent is 0, or one more than the late answers the backend had given when it
	// got the last offer that it left unanswered.
	silent atomic.Uint64
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
func (b *backend) markSilent(before uint64) { b.silent.Store(before + 1) }

// markAnswered notes that the backend answered in time.
func (b *backend) markAnswered() { b.silent.Store(0) }

// sound reports whether the backend has not been found silent, or has answered
// since: a frozen one answers late what it slept through, once it wakes up.
func (b *backend) sound() bool {
	silent := b.silent.Load()
	return silent == 0 || b.lateAnswers() >= silent
}

// gone reports whether the process has been seen to end. One whose end nobody has
// seen yet has lost its channel, which says so when something is sent.
func (b *backend) gone() bool {
	if b.exited == nil {
		return !b.process.Alive()
	}
	select {
	case <-b.exited:
		return true
	default:
		return false
	}
}

// claims reports whether a handoff to the backend is decided by a claim.
func (b *backend) claims() bool { return b.channel != nil }

// errUnverified begins every refusal of a registration: the process is not what
// the service definition calls for.
var errUnverified = errors.New("backend not verified")

// verify makes an entry of a registering process: its user was checked at
// accept, its pid is pinned, and its executable must be the build that the
// definition names. The caller closes the entry's process.
func (c *connection) verify(job context.Context, req *wire.Register) (*entry, error) {
	definition, refusal := c.define(req.ServiceName)
	if refusal != nil {
		return nil, fmt.Errorf("%w: service %q: %s", errUnverified, req.ServiceName, refusal.Reason)
	}
	instance, err := definition.Instance()
	if err != nil {
		return nil, fmt.Errorf("%w: service %q: %w", errUnverified, req.ServiceName, err)
	}
	if err := ownSocket(req.BackendPipe, c.cred.PID); err != nil {
		return nil, fmt.Errorf("%w: backend pipe: %w", errUnverified, err)
	}
	process, err := openPeer(c.conn)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnverified, err)
	}
	ctx, cancel := c.hashing(job)
	defer cancel()
	path, hash, err := c.executable(ctx, process)
	if err == nil {
		build, buildErr := c.hashes.Hash(ctx, definition.BinaryPath)
		switch {
		case definition.AllowsExecutable(path, hash, build):
		case buildErr != nil:
			err = fmt.Errorf("it runs %s, and the build that the service is defined with is unknown: %w", path, buildErr)
		default:
			err = fmt.Errorf("it runs %s, but the service is defined with %s: define the service with this binary, or start that one",
				path, definition.BinaryPath)
		}
	}
	if err != nil {
		process.Close()
		return nil, fmt.Errorf("%w: %w", errUnverified, err)
	}
	e := &entry{
		Key: registry.Key{Instance: instance.String(), Service: req.ServiceName, Version: req.ServiceVersion},
		PID: process.PID(), ExePath: path, ExeHash: hash,
		Pipe: req.BackendPipe, Since: time.Now(), Handle: &backend{process: process},
	}
	e.Handle.renews = c.renewed(e)
	return e, nil
}

// renewed are the registrations of e's process for the same version whose pipe is no
// more: its name was lost, and e brings the new one.
func (b *Broker) renewed(e *entry) (gone []*entry) {
	for _, o := range b.backends.All() {
		if o.Key != e.Key || o.PID != e.PID || o.Pipe == e.Pipe || o.Handle.channel == nil {
			continue
		}
		if _, err := os.Lstat(o.Pipe); errors.Is(err, os.ErrNotExist) {
			gone = append(gone, o)
		}
	}
	return gone
}

func openPeer(c *unixconn.Conn) (p *peer.Process, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	ctlErr := raw.Control(func(fd uintptr) { p, err = peer.OpenProcess(int(fd)) })
	return p, errors.Join(ctlErr, err)
}

// ownSocket checks the pipe that clients will be sent to: process pid, which named
// it, must listen there.
func ownSocket(path string, pid int) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%q is no absolute path", path)
	}
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if st.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%s is no socket", path)
	}
	return endpoint.CheckServedBy(path, pid)
}

// watchBackend has e's channel served by the loop until channel or process ends.
// From then on the loop owns the channel, and watchProcess the process handle.
func (f *front) watchBackend(e *entry) {
	h := e.Handle
	fd, ok := h.channel.Watched()
	if !ok {
		f.leftBackend(e, nil)
		return
	}
	err := f.loop.Add(fd, func() {
		attempt, ack, err := h.channel.Next()
		switch {
		case err != nil:
			f.loop.Remove(fd)
			f.leftBackend(e, handoff.Blame(err))
		case attempt != nil:
			attempt.Owner.(*connection).answered(ack)
		}
	})
	if err != nil {
		f.leftBackend(e, err)
	}
}

// leftBackend takes a backend whose channel has ended out of the registry, and
// settles what was offered to it. It happens once.
func (f *front) leftBackend(e *entry, fault error) {
	h := e.Handle
	if h.retired {
		return
	}
	h.retired = true
	f.backends.Remove(e)
	f.waiting.lost(e.Key, time.Now())
	for _, attempt := range h.channel.Retire() {
		attempt.Owner.(*connection).unanswered(handoff.ErrBackendGone)
	}
	f.counters.strayAcks.Add(h.channel.Strays().Total())
	if fault != nil {
		f.log.Error("channel ended: the backend broke the protocol; it may register again", "backend_pid", e.PID, "error", fault)
	}
	close(h.left)
}

// watchProcess ends e's channel when its process exits, and frees the process
// handle when both have ended.
func (b *Broker) watchProcess(e *entry) {
	h := e.Handle
	ctx, cancel := context.WithCancel(context.Background())
	defer h.process.Close()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if h.process.Wait(ctx) == nil {
			close(h.exited)
			h.channel.Close()
		}
	}()
	<-h.left
	if !b.draining.Load() { // a draining broker has closed the channel itself
		b.bury(e, h.exited)
	}
	cancel()
	<-watched
}

// exitGrace is how long after its channel a process takes to be seen as exited.
const exitGrace = 200 * time.Millisecond

// bury removes the pipe of a backend whose process is gone, so that nobody dials
// a dead name.
func (b *Broker) bury(e *entry, exited <-chan struct{}) {
	timer := time.NewTimer(exitGrace)
	defer timer.Stop()
	select {
	case <-exited:
		b.log.Info("backend exited", "service", e.Service, "version", e.Version, "backend_pid", e.PID)
	case <-timer.C:
		b.log.Info("backend left", "service", e.Service, "version", e.Version, "backend_pid", e.PID)
		return
	}
	endpoint.RemoveDead(e.Pipe)
}

// closeBackends ends every channel. The backends live on, and register with the
// next broker.
func (f *front) closeBackends() {
	for _, e := range f.backends.All() {
		if ch := e.Handle.channel; ch != nil {
			if fd, ok := ch.Watched(); ok {
				f.loop.Remove(fd)
			}
			f.leftBackend(e, nil)
		}
	}
}

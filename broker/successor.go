package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/launch"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wait"
	"github.com/seed-7265657e/usher/internal/wire"
)

// This file is the upgrade of a broker in place, on the side of the one that goes. It
// starts another process in its place, gives it the listening socket, and goes on serving
// until that one says that it begins; then the connections that wait are given to it, and
// those whose offer is under way end here. Nobody is refused meanwhile: both have the
// socket, and whoever is in its queue is accepted by one of the two. (On Windows each has a part
// of its own of what listens: internal/endpoint/takeover_windows.go.)
//
//	serving ──LISTENER──▶ asking ──READY──▶ asked ──GO──▶ offered ──TAKEN──▶ BACKEND…, CONNECTION…, draining ──▶ ended
//	   ▲                    │                 │              │
//	   └────────────────────┴─────────────────┴──────────────┴──FAILED, ends, or takes too long: serves on
//
// Up to TAKEN this broker has given away nothing that it needs, and the successor has touched
// nothing: so each of the two may fail, at any time, and the other one serves. From READY on
// no instance is started and no service verb begins here, of which the successor would not
// know; they wait, and go on there. Processes that have a connection to themselves are started
// until nothing else is.
//
// The channels of backends follow, each as soon as nothing is under way on it
// (passbackend.go); until then its clients wait at the successor.

// Successor says how a broker is started that takes this one's place; a zero value starts
// none.
type Successor struct {
	// Path is the executable: where it has been replaced, the new one.
	Path string
	Args []string
	// Env is the whole environment; HandoverVariable is added.
	Env []string
	// Output takes its standard output and error; it stays the caller's.
	Output *os.File
}

const (
	// takeOverTime is how long a successor has until it could serve, quietTime how long an
	// upgrade waits for instances that are just being started, and takenTime how long the
	// successor has to begin.
	takeOverTime = 10 * time.Second
	quietTime    = 10 * time.Second
	takenTime    = 5 * time.Second
)

// errUpgraded is the cause of the end of a broker that has a successor.
var errUpgraded = errors.New("another broker has taken its place")

// errUnderWay says that this broker is being replaced already.
var errUnderWay = errors.New("upgrade: one is under way")

// successor is the one that takes this broker's place, from READY on.
type successor struct {
	channel *sock.Channel
	pid     int
	can     uint64 // its capabilities
	lock    bool   // it has the one beside the socket
	end     func() // its process, at once
}

// Upgrade has another broker take this one's place, as Options.Successor says. It returns
// when that one serves, and Serve returns soon after it; or with the reason why this broker
// serves on.
//
// It may be called while Serve runs.
func (b *Broker) Upgrade(ctx context.Context) (pid int, err error) { return b.server.upgradeOnce(ctx) }

func (s *server) upgradeOnce(ctx context.Context) (pid int, err error) {
	return s.upgradeTo(ctx, nil, s.opts.Successor.Path)
}

// upgradeTo is Upgrade with a file that is open; nil: what is at path.
func (s *server) upgradeTo(ctx context.Context, file *os.File, path string) (pid int, err error) {
	if s.opts.Successor.Path == "" {
		return 0, errors.New("upgrade: this broker does not know how to start another: stop it, and have it started again as it was started")
	}
	if !s.upgrading.TryLock() {
		return 0, errUnderWay
	}
	pid, err = s.upgrade(ctx, file, path)
	if err != nil {
		s.upgrading.Unlock() // else it stays locked: there is nothing to upgrade any more
		err = fmt.Errorf("upgrade: %w; the broker serves on", err)
		s.jobs.post(func() { s.emit(event.UpgradeFailed{Problem: err.Error()}) })
	}
	return pid, err
}

func (s *server) upgrade(ctx context.Context, program *os.File, path string) (pid int, err error) {
	ctx, cancel := context.WithTimeout(ctx, takeOverTime+quietTime+takenTime)
	defer cancel()
	near, far, err := sock.Pair()
	if err != nil {
		return 0, err
	}
	how := s.opts.Successor
	wd, _ := os.Getwd()
	p, err := launch.Start(launch.Spec{
		Program: program, Path: path, Args: how.Args, Dir: wd, Output: how.Output, Env: how.Env,
		Given: []*sock.FD{far}, Numbers: HandoverVariable,
	})
	if err != nil {
		return 0, errors.Join(err, near.Close())
	}
	next := &successor{channel: near, pid: p.PID(), end: func() { p.End(context.WithoutCancel(ctx), 0) }}
	err = far.GivenTo(p.PID())
	if err == nil {
		err = s.askSuccessor(ctx, next)
	}
	if err == nil {
		err = s.handOver(ctx, next)
	}
	if err != nil {
		exit := p.End(context.WithoutCancel(ctx), endGrace)
		_ = near.Close() // when it has ended: from this on it would serve
		if back := s.binding.ListenAgain(); back != nil {
			err = errors.Join(err, back)
		}
		s.jobs.asked(s.keepSockets)
		return 0, fmt.Errorf("%w (the other broker %v)", err, exit)
	}
	pid = p.PID()
	p.Release()
	return pid, nil
}

// askSuccessor gives the successor the listening socket, and waits until it could serve.
func (s *server) askSuccessor(ctx context.Context, next *successor) error {
	place, err := s.binding.SharePlace()
	if err != nil {
		return err
	}
	defer place.Close()
	err = sendHandover(next.channel, &wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_LISTENER, Format: handoverFormat, KeepName: s.keepsName()}, place)
	if err != nil {
		return err
	}
	h, err := next.answer(ctx, time.Now().Add(takeOverTime))
	if err != nil {
		return fmt.Errorf("the other broker gave no answer: %w", err)
	}
	switch h.Kind {
	case wire.HandoverKind_HANDOVER_KIND_READY:
		next.can = h.Capabilities
		return nil
	case wire.HandoverKind_HANDOVER_KIND_FAILED:
		return fmt.Errorf("the other broker says: %s", h.Reason)
	}
	return fmt.Errorf("the other broker answered with %s", h.Kind)
}

// answer waits for what the successor says, until by, unless that is zero, and until ctx ends.
func (next *successor) answer(ctx context.Context, by time.Time) (*wire.Handover, error) {
	err := ctx.Err()
	if err == nil {
		err = next.channel.SetDeadline(by)
	}
	if err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = next.channel.SetDeadline(time.Unix(1, 0))
	})
	h, msg, err := receiveHandover(next.channel)
	if !stop() {
		<-ended // else it could end the next answer's wait
	}
	msg.FDs.Close()
	if ctx.Err() != nil && err != nil {
		err = ctx.Err()
	}
	return h, err
}

// taken waits until the successor begins. When it has not said so in time it can't any more:
// the kernel takes no more from it, and it begins only behind what it could say; or, where the
// kernel does not know how to, it has ended by then. On Windows what it takes to begin is taken
// back first: one that has that already begins, or ends.
func (next *successor) taken(ctx context.Context, withdraw func() bool) error {
	if next.can&frame.CapTaken == 0 { // it says nothing
		return nil
	}
	h, err := next.answer(ctx, time.Now().Add(takenTime))
	if err != nil && !withdraw() {
		h, err = next.answer(context.WithoutCancel(ctx), time.Time{})
	}
	if err != nil {
		refused := next.channel.EndReading()
		last, msg, none := readHandover(next.channel.TryRecv())
		switch msg.FDs.Close(); {
		case none == nil:
			h, err = last, nil
		case !refused:
			next.end()
		}
	}
	switch {
	case err != nil:
		return fmt.Errorf("the other broker did not begin: %w", err)
	case h.Kind == wire.HandoverKind_HANDOVER_KIND_FAILED:
		return fmt.Errorf("the other broker says: %s", h.Reason)
	case h.Kind != wire.HandoverKind_HANDOVER_KIND_TAKEN:
		return fmt.Errorf("the other broker answered with %s", h.Kind)
	}
	return nil
}

// handOver offers this broker's place to the successor once no instance is just being
// started, and has the loop give way when that one has taken it.
func (s *server) handOver(ctx context.Context, next *successor) error {
	offered := make(chan error, 1)
	if !s.jobs.post(func() { s.whenStarted(next, func() { offered <- s.offerPlace(next) }) }) {
		return errEnded
	}
	var err error
	select {
	case err = <-offered:
	case <-ctx.Done():
		s.jobs.asked(func() { s.replacing.started = nil })
		select {
		case err = <-offered: // just before
		default:
			err = ctx.Err()
		}
	}
	for by := time.Now().Add(takenTime); errors.Is(err, errno.EAGAIN) && time.Now().Before(by) && wait.For(ctx, time.Millisecond); { // there are many sockets
		if !s.jobs.asked(func() {
			if s.nothingStarts() { // a client who can't be passed on may have come
				err = s.offerPlace(next)
			}
		}) {
			return errEnded
		}
	}
	if err == nil {
		failpoint.Hit(failpoint.BrokerOffered)
		err = next.taken(ctx, s.binding.Withdraw)
	}
	if err != nil {
		s.jobs.asked(s.goOn)
		return err
	}
	s.jobs.asked(func() { s.giveWay(next) }) // else this broker has ended, and that one serves
	return nil
}

// errEnded is of one who asks a broker that has ended.
var errEnded = errors.New("this broker has ended")

// offerPlace tells the successor that it may begin.
func (s *server) offerPlace(next *successor) error {
	if s.draining {
		return errors.New("this broker is ending")
	}
	if err := s.mayGiveWay(); err != nil {
		return err
	}
	if err := s.offerSockets(next); err != nil {
		return err
	}
	if err := s.offerPrograms(next); err != nil {
		return err
	}
	come := 0 // backends, to the next one
	for _, e := range s.backends.All() {
		if e.Handle.channel != nil && !e.Handle.gone() {
			come++
		}
	}
	var with []sock.Lender
	if next.can&frame.CapTaken != 0 {
		lock, err := s.binding.ShareLock()
		if err != nil {
			return err
		}
		if next.lock = lock != nil; next.lock {
			defer lock.Close()
			with = append(with, lock)
		}
	}
	err := sendHandover(next.channel, &wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_GO, Backends: uint32(come)}, with...)
	if err != nil {
		return fmt.Errorf("the other broker has gone: %w", err)
	}
	s.replacing.decided = make(chan struct{})
	return nil
}

// giveWay hands over what the successor can go on with, and drains.
func (s *server) giveWay(next *successor) {
	s.acceptor.Stop()
	s.successor = next
	s.binding.Disown(next.lock)
	for _, c := range s.binding.Rest() {
		s.admit(c)
	}
	s.leavePrograms()
	s.leaveSockets()
	for _, c := range s.conns.all() {
		switch c.phase {
		case phaseReading:
			c.stopReading()
			c.passOn(c.in.Received())
		case phaseWaiting:
			if c.plain && !c.socket.handedOn { // there is nobody to pass it to
				if c.waiter.heldBack {
					c.resumeWaiting()
				}
				continue
			}
			c.leaveQueue()
			c.waiter.starts.close()
			c.passFrame(c.waiter.target.request)
		}
	}
	s.passBackends(s.backends.All()...)
	s.emit(event.Upgraded{PID: next.pid})
	if tell := s.opts.Supervisor.Succeeded; tell != nil {
		tell(next.pid)
	}
	s.shutDown(errUpgraded)
	s.replacing.over()
}

// errHandsOn: a successor knows neither of a pause nor of a verb that waits.
var errHandsOn = errors.New("the broker is needed as it is")

// mayGiveWay returns an error while somebody counts on this very broker.
func (s *server) mayGiveWay() error {
	for key := range s.paused {
		return fmt.Errorf("%w: service %s is paused; usher service resume %s ends that", errHandsOn, key.Service, key.Service)
	}
	for c := range s.controls {
		return fmt.Errorf("%w: a restart or stop of service %s is under way", errHandsOn, c.control.request.ServiceName)
	}
	return nil
}

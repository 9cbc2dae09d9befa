package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/launch"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wire"
)

// This file is the upgrade of a broker in place, on the side of the one that goes. It
// starts another process in its place, gives it the listening socket, and goes on serving
// until that one says that it could; then the connections that wait are given to it, and
// those whose offer is under way end here. Nobody is refused meanwhile: both have the
// socket, and whoever is in its queue is accepted by one of the two. The lock beside the
// socket follows as soon as this one has ended.
//
//	serving ──LISTENER──▶ asking ──READY──▶ handing over: CONNECTION…, GO ──▶ draining ──▶ ended
//	   ▲                    │
//	   └────────────────────┴──FAILED, ends, or takes too long: serves on
//
// Backends are not handed over. Each channel ends as soon as nothing is under way on it, and
// its backend registers again, which takes about 20 ms; until then its clients wait at the
// successor. A channel with its page of claims would have to be in the same state on both
// sides, and two builds of usher need not agree on that.

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

// handoverFormat is what the first message says. A successor that does not know it says so,
// and this broker stays.
const handoverFormat = 1

const (
	// takeOverTime is how long a successor has until it could serve, and quietTime how long
	// an upgrade waits for instances that are just being started.
	takeOverTime = 10 * time.Second
	quietTime    = 10 * time.Second
)

// errUpgraded is the cause of the end of a broker that has a successor.
var errUpgraded = errors.New("another broker has taken its place")

// successor is the one that takes this broker's place, from READY on.
type successor struct {
	channel *sock.Channel
	pid     int
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
		return 0, errors.New("upgrade: this broker does not know how to start another")
	}
	if !s.upgrading.TryLock() {
		return 0, errors.New("upgrade: one is under way")
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
	ctx, cancel := context.WithTimeout(ctx, takeOverTime+quietTime)
	defer cancel()
	near, far, err := sock.Pair()
	if err != nil {
		return 0, err
	}
	file, err := far.File("handover")
	if err != nil {
		return 0, errors.Join(err, near.Close())
	}
	next := s.opts.Successor
	wd, _ := os.Getwd()
	p, err := launch.Start(launch.Spec{
		Program: program, Path: path, Args: next.Args, Dir: wd, Output: next.Output, Inherit: []*os.File{file},
		Env: append(append([]string(nil), next.Env...), HandoverVariable+"=3"),
	})
	_ = file.Close()
	if err != nil {
		return 0, errors.Join(err, near.Close())
	}
	err = s.askSuccessor(near)
	if err == nil {
		err = s.handOver(ctx, &successor{near, p.PID()})
	}
	if err != nil {
		exit := p.End(context.WithoutCancel(ctx), endGrace)
		_ = near.Close()
		if back := s.binding.ListenAgain(); back != nil {
			err = errors.Join(err, back)
		}
		return 0, fmt.Errorf("%w (the other broker %v)", err, exit)
	}
	pid = p.PID()
	p.Release()
	return pid, nil
}

// askSuccessor gives the successor the listening socket, and waits until it could serve.
func (s *server) askSuccessor(ch *sock.Channel) error {
	err := sendHandover(ch, &wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_LISTENER, Format: handoverFormat, KeepName: s.keepsName()}, s.acceptor.Listener)
	if err != nil {
		return err
	}
	if err := ch.SetDeadline(time.Now().Add(takeOverTime)); err != nil {
		return err
	}
	h, msg, err := receiveHandover(ch)
	if err != nil {
		return fmt.Errorf("the other broker gave no answer: %w", err)
	}
	msg.FDs.Close()
	switch h.Kind {
	case wire.HandoverKind_HANDOVER_KIND_READY:
		return nil
	case wire.HandoverKind_HANDOVER_KIND_FAILED:
		return fmt.Errorf("the other broker says: %s", h.Reason)
	}
	return fmt.Errorf("the other broker answered with %s", h.Kind)
}

// handOver has the loop hand over once no instance is just being started, and waits for
// that.
func (s *server) handOver(ctx context.Context, next *successor) error {
	result := make(chan error, 1)
	if !s.jobs.post(func() { s.whenStarted(func() { result <- s.giveWay(next) }) }) {
		return errors.New("this broker has ended")
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
	}
	cancelled := make(chan error, 1)
	if !s.jobs.post(func() {
		if s.successor == nil { // else it has just been done
			s.onceStarted = nil
			cancelled <- ctx.Err()
			return
		}
		cancelled <- nil
	}) {
		return ctx.Err()
	}
	return <-cancelled
}

// whenStarted calls f as soon as no instance is being started.
func (s *server) whenStarted(f func()) {
	if s.onceStarted = f; len(s.starts.pending) == 0 {
		s.startsChanged()
	}
}

// startsChanged is called when an instance is ready, or is not going to be.
func (s *server) startsChanged() {
	if f := s.onceStarted; f != nil && len(s.starts.pending) == 0 {
		s.onceStarted = nil
		f()
	}
}

// giveWay hands over what the successor can go on with, and drains.
func (s *server) giveWay(next *successor) error {
	if s.draining {
		return errors.New("this broker is ending")
	}
	if err := s.mayGiveWay(); err != nil {
		return err
	}
	s.acceptor.Stop()
	come := 0 // backends, to the next one
	for _, e := range s.backends.All() {
		if e.Handle.channel != nil && !e.Handle.gone() {
			come++
		}
	}
	if err := sendHandover(next.channel, &wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_GO, Backends: uint32(come)}); err != nil {
		s.acceptor.Start()
		return fmt.Errorf("the other broker has gone: %w", err)
	}
	s.successor = next
	s.binding.KeepName()
	for _, c := range s.conns.all() {
		switch c.phase {
		case phaseReading:
			c.stopReading()
			c.passOn(c.in.Received())
		case phaseWaiting:
			if c.plain { // there is no frame to pass
				continue
			}
			c.leaveQueue()
			c.waiter.starts.close()
			c.passFrame(c.waiter.target.request)
		}
	}
	for _, e := range s.backends.All() {
		s.releaseBackend(e)
	}
	s.emit(event.Upgraded{PID: next.pid})
	if tell := s.opts.Supervisor.Succeeded; tell != nil {
		tell(next.pid)
	}
	s.shutDown(errUpgraded)
	return nil
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

// releaseBackend ends a backend's channel as soon as nothing is under way on it, so that it
// registers with the successor.
func (s *server) releaseBackend(e *entry) {
	if s.successor == nil || e.Handle.channel == nil || e.Handle.inFlight > 0 {
		return
	}
	s.backendLeft(e, nil)
}

// passFrame gives the successor a connection whose frame has been read. It is false when
// there is none.
func (c *connection) passFrame(f *wire.Frame) bool {
	if c.server.successor == nil || c.plain {
		return false
	}
	received, err := frame.Append(nil, f)
	if err != nil {
		return false
	}
	c.passOn(received)
	return true
}

// passOn gives the successor a connection that is this broker's alone, with what was read
// from it. It is a job: the successor takes them one by one.
func (c *connection) passOn(received []byte) {
	next := phaseResolving
	if c.phase == phaseOffered {
		next = phaseReplying
	}
	if c.phase != phaseResolving {
		c.enter(next, c.deadline)
	}
	ch, conn, deadline := c.server.successor.channel, c.conn, c.deadline
	begun := offload(c, false, func(ctx context.Context) error {
		h := &wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_CONNECTION, Received: received}
		for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
			err := sendHandover(ch, h, conn)
			if !errors.Is(err, syscall.EAGAIN) || time.Now().After(deadline) {
				return err
			}
			select { // it has not taken those before
			case <-time.After(pause):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}, func(err error) {
		if err != nil {
			c.refuseAndClose(nil, hello.ShuttingDown())
			return
		}
		c.close()
	}, nil)
	if !begun {
		c.refuseAndClose(nil, hello.ShuttingDown())
	}
}

func sendHandover(ch *sock.Channel, h *wire.Handover, with ...sock.Lender) error {
	msg, err := frame.Append(nil, frame.HandoverEvent(h))
	if err != nil {
		return err
	}
	return ch.Send(msg, with...)
}

// damagedError says that a message arrived and is of no use. Others may come behind it.
type damagedError struct{ error }

func (e *damagedError) Unwrap() error { return e.error }

// receiveHandover waits for the next message. The caller closes what came with it. The error
// is a *damagedError where the channel goes on.
func receiveHandover(ch *sock.Channel) (*wire.Handover, sock.Message, error) {
	msg, err := ch.Recv()
	if err != nil {
		return nil, msg, err
	}
	f, err := msg.Frame()
	var h *wire.Handover
	if err == nil {
		h, err = frame.ParseHandover(f)
	}
	if err == nil {
		err = msg.Fault
	}
	if err != nil {
		msg.FDs.Close()
		err = &damagedError{err}
	}
	return h, msg, err
}

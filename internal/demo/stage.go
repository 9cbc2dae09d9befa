package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-7265657e/usher/examples/notes/notes"
	"github.com/seed-7265657e/usher/internal/world"
)

// ackDeadline is how long the demo's broker waits for a backend: long enough for
// a busy machine, short enough to watch a frozen backend lose its claim.
const ackDeadline = time.Second

// stage is the private world the demo plays in. It is used by one goroutine.
type stage struct {
	*world.World
	opts Options

	broker   *world.Process
	standing []*world.Process // the two backends that live to the end
	backends []*world.Process // every backend ever started
	clients  int              // that were started
	// successors are the brokers that others have started, in their own place.
	successors []int
	executed   map[string]int // what all backends together have run, by request id

	ends      []error  // of processes that should have ended well
	tallies   []*tally // of every errand but the warm-up
	drawn     []Step   // the timeline
	baselines []baseline
	fdsLeaked int
}

func newStage(ctx context.Context, opts Options) (*stage, error) {
	if err := world.AdoptOrphans(); err != nil {
		return nil, fmt.Errorf("processes that outlive their parents can't be ended reliably: %w", err)
	}
	w, err := world.New(ctx, notes.Service, opts.Program)
	if err != nil {
		return nil, err
	}
	w.Keep = opts.Keep
	return &stage{World: w, opts: opts, executed: make(map[string]int)}, nil
}

// close ends all processes, those that were started by others too, and removes the
// directory.
func (s *stage) close() error {
	s.Kill() // first, for one of them may be about to start another
	return errors.Join(s.endDetached(), s.Close())
}

// set starts broker and standing backends, uses every route once, and takes the
// baselines.
func (s *stage) set(ctx context.Context) error {
	if err := s.startBroker(ctx, "broker"); err != nil {
		return err
	}
	for _, name := range []string{"backend-a", "backend-b"} {
		p, err := s.startBackend(ctx, name, "")
		if err != nil {
			return err
		}
		s.standing = append(s.standing, p)
	}
	if err := s.warm(ctx); err != nil {
		return err
	}
	return s.takeBaselines(ctx, append(s.standing[:len(s.standing):len(s.standing)], s.broker)...) // the broker last: it is judged first
}

// warm uses every route once: what a process opens at first use and keeps is no
// leak.
func (s *stage) warm(ctx context.Context) error {
	for _, noHandoff := range []bool{false, true} {
		e := errands{Requests: 1, Prefix: fmt.Sprintf("warm-%d", s.clients), NoHandoff: noHandoff}
		t := s.send(ctx, e)
		s.tallies = s.tallies[:len(s.tallies)-1] // not a part of any scenario
		if err := t.allAnswered(); err != nil {
			return fmt.Errorf("warm-up: %w", err)
		}
	}
	return nil
}

// startBroker runs `usher serve` and waits until it serves. Its log has the steps of
// every connection, for the timeline.
func (s *stage) startBroker(ctx context.Context, name string) error {
	p, err := s.start(name, "serve", "--socket", s.Socket(), "--service-def-dir", s.Definitions(),
		"--ack-deadline", ackDeadline.String(), "--log-level", "debug", "--log-format", "json")
	if err != nil {
		return err
	}
	s.broker = p
	return s.Serving(ctx, p)
}

// startBackend runs a backend and waits until the broker knows it. It is the
// newest then, so the next connection goes to it.
func (s *stage) startBackend(ctx context.Context, name string, fault Fault) (*world.Process, error) {
	args := []string{"demo-role", "backend", "--pipe", s.SocketNamed(name)}
	if fault != "" {
		args = append(args, "--fault", string(fault))
	}
	p, err := s.start(name, args...)
	if err != nil {
		return nil, err
	}
	s.backends = append(s.backends, p)
	if err := p.Ready(ctx); err != nil {
		return nil, err
	}
	return p, s.Registered(ctx, p)
}

func (s *stage) startClient(ctx context.Context) (*world.Process, error) {
	s.clients++
	p, err := s.start(fmt.Sprintf("client-%d", s.clients), "demo-role", "client")
	if err != nil {
		return nil, err
	}
	return p, p.Ready(ctx)
}

func (s *stage) start(name string, args ...string) (*world.Process, error) {
	return s.Start(world.Command{Name: name, Args: append([]string{s.opts.Program}, args...)})
}

// send lets a client process of its own run an errand, and end.
func (s *stage) send(ctx context.Context, e errands) *tally {
	c, err := s.startClient(ctx)
	if err != nil {
		return s.enter(lost(e, err))
	}
	defer func() { s.ends = append(s.ends, c.Quit()) }()
	return s.run(ctx, c, e)
}

// run lets a client process run an errand, and enters the result.
func (s *stage) run(ctx context.Context, c *world.Process, e errands) *tally {
	if err := c.Tell(e); err != nil {
		return s.enter(lost(e, err))
	}
	return s.result(ctx, c, e)
}

// result waits for the result of an errand, and enters it.
func (s *stage) result(ctx context.Context, c *world.Process, e errands) *tally {
	done, err := s.await(ctx, c, "the result", func(e *event) bool { return e.Result != nil })
	if err != nil {
		return s.enter(lost(e, err))
	}
	return s.enter(done.Result)
}

func (s *stage) enter(t *tally) *tally {
	s.tallies = append(s.tallies, t)
	return t
}

// lost is an errand of which the client can't tell any more: it has no verdict.
func lost(e errands, why error) *tally {
	return &tally{Requests: e.Requests, Lost: e.Requests, Faults: []string{why.Error()}}
}

// strike ends the processes that still live, politely, and hears them out.
func (s *stage) strike(ctx context.Context) error {
	for _, p := range s.standing {
		s.ends = append(s.ends, p.Quit(), s.over(ctx, p))
	}
	if s.broker != nil {
		s.ends = append(s.ends, s.Shutdown(ctx, s.broker))
	}
	if len(s.successors) > 0 {
		s.ends = append(s.ends, s.endDetached())
	}
	return errors.Join(s.ends...)
}

package demo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/seed-7265657e/usher/internal/world"
)

// frozenBackend freezes a backend between receiving a connection and claiming
// it. The broker takes the connection back and gives it to another one; the
// frozen one, thawed while that conversation goes on, must find the claim gone.
func (s *stage) frozenBackend(ctx context.Context) (detail string, err error) {
	frozen, err := s.startBackend(ctx, "backend-frozen", FaultFreeze)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, frozen.Quit()) }()
	base, err := s.baselineOf(ctx, frozen)
	if err != nil {
		return "", err
	}
	base.goroutines = math.MaxInt // it has served nothing yet: descriptors alone can be compared
	c, err := s.startClient(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, c.Quit()) }()
	before, err := world.AskStatus(ctx, s.Socket())
	if err != nil {
		return "", err
	}
	began := time.Now()
	request := errands{Requests: 1, Prefix: "frozen", Session: true}
	if err := errors.Join(c.Tell(request), s.freeze(ctx, frozen)); err != nil {
		return "", err
	}
	first := s.result(ctx, c, request)
	waited := time.Since(began)
	late, err := s.thaw(ctx, frozen)
	if err != nil {
		return "", err
	}
	next := s.run(ctx, c, errands{Requests: 1, Prefix: "thawed", Session: true})
	settled := s.settled(ctx, base)
	times, err := s.ran(ctx, "frozen-0")
	err = errors.Join(err, first.allAnswered(), next.allAnswered(),
		s.takenBack(ctx, before),
		check(late["checked"] > 0 && late["claimed"] == 0 && late["acked"] == 0, "the thawed backend took the connection"),
		check(first.onlyBy() != frozen.PID(), "the frozen backend answered"),
		check(next.Connections == 0 && next.onlyBy() == first.onlyBy(), "the conversation did not go on where it was"),
		check(times == 1, "the request ran %d times", times),
		settled)
	return fmt.Sprintf("frozen with the connection in hand; taken back, answered by %s after %.1f s; thawed: claim lost; ran once, and the connection goes on",
		s.nameOf(first.onlyBy()), waited.Seconds()), err
}

// killedBackend kills a backend that has a connection on its way.
func (s *stage) killedBackend(ctx context.Context) (string, error) {
	killed, err := s.startBackend(ctx, "backend-killed", FaultKillReceived)
	if err != nil {
		return "", err
	}
	before, err := world.AskStatus(ctx, s.Socket())
	if err != nil {
		return "", err
	}
	t := s.send(ctx, errands{Requests: 1, Prefix: "killed"})
	if err := s.over(ctx, killed); err != nil {
		return "", err
	}
	times, err := s.ran(ctx, "killed-0")
	err = errors.Join(err, t.allAnswered(),
		s.takenBack(ctx, before),
		check(t.onlyBy() != killed.PID(), "the killed backend answered"),
		check(times == 1, "the request ran %d times", times))
	return fmt.Sprintf("killed with the connection in hand; answered by %s; ran once", s.nameOf(t.onlyBy())), err
}

// killedAfterAdopting kills a backend that has run a request, before it answers.
// Nobody can know that from outside: the client must say so, and not repeat it.
func (s *stage) killedAfterAdopting(ctx context.Context) (string, error) {
	killed, err := s.startBackend(ctx, "backend-crashing", FaultKillExecuted)
	if err != nil {
		return "", err
	}
	t := s.send(ctx, errands{Requests: 1, Prefix: "crashed"})
	if err := s.over(ctx, killed); err != nil {
		return "", err
	}
	times := s.executed["crashed-0"] // nobody else has the request
	err = errors.Join(
		check(t.Unknown == 1, "the client did not report the outcome as unknown: %d answered, %v", t.answered(), t.Faults),
		check(times == 1, "the request ran %d times", times))
	return "killed after running the request; the client reports it as unknown and does not repeat it; ran once", err
}

// takenBack says whether the broker has taken one connection back since, and given
// it to another backend.
func (s *stage) takenBack(ctx context.Context, before *world.Status) error {
	now, err := world.AskStatus(ctx, s.Socket())
	if err != nil {
		return err
	}
	taken, retried := now.Handoffs.NotTaken-before.Handoffs.NotTaken, now.Handoffs.Retried-before.Handoffs.Retried
	return check(taken == 1 && retried == 1, "the broker took %d connections back and gave %d to another backend", taken, retried)
}

// freeze freezes a backend once it has a connection in its hand.
func (s *stage) freeze(ctx context.Context, p *world.Process) error {
	if _, err := s.await(ctx, p, "it to stand still", func(e *event) bool { return e.Freezing }); err != nil {
		return err
	}
	return p.Freeze(ctx)
}

// thaw makes a backend go on that was frozen with a connection in its hand, and returns what
// became of that once it has told the broker, which no longer waits.
func (s *stage) thaw(ctx context.Context, p *world.Process) (steps, error) {
	before, err := world.AskStatus(ctx, s.Socket())
	if err != nil {
		return nil, err
	}
	if err := p.Thaw(); err != nil {
		return nil, err
	}
	if _, err := s.report(ctx, p, question{GoOn: true}); err != nil {
		return nil, err
	}
	err = world.Until(ctx, "the thawed backend has answered", func() (bool, error) {
		now, err := world.AskStatus(ctx, s.Socket())
		return err == nil && now.Handoffs.StrayAck > before.Handoffs.StrayAck, err
	})
	if err != nil {
		return nil, err
	}
	e, err := s.report(ctx, p, question{Handoffs: true})
	if err != nil {
		return nil, err
	}
	if len(e.Handoffs) != 1 {
		return nil, fmt.Errorf("%s received %d connections", p.Name, len(e.Handoffs))
	}
	return e.Handoffs[0], nil
}

// ran asks the standing backends how often they ran a request, and adds what the
// others said.
func (s *stage) ran(ctx context.Context, id string) (int, error) {
	reports, err := s.reports(ctx) // behind the lines that tell what has run
	if err != nil {
		return 0, err
	}
	standing := 0
	for _, r := range reports {
		standing += r.Executions[id]
	}
	times := s.executed[id]
	return times, check(times >= standing, "the backends report %d runs of %s but told of %d", standing, id, times)
}

// onlyBy is the process that answered, when it was one alone; else 0.
func (t *tally) onlyBy() int {
	if len(t.By) != 1 {
		return 0
	}
	return t.By[0]
}

func (s *stage) nameOf(pid int) string {
	for _, p := range s.backends {
		if p.PID() == pid {
			return p.Name
		}
	}
	return "nobody"
}

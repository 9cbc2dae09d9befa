package demo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/seed-7265657e/usher/internal/wait"
)

// frozenBackend freezes a backend between receiving a connection and claiming
// it. The broker takes the connection back and gives it to another one; the
// frozen one, thawed while that conversation goes on, must find the claim gone.
func (s *stage) frozenBackend(ctx context.Context) (detail string, err error) {
	frozen, err := s.startBackend(ctx, "backend-frozen", FaultFreeze)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, frozen.stop()) }()
	base, err := s.baselineOf(ctx, frozen)
	if err != nil {
		return "", err
	}
	base.goroutines = math.MaxInt // it has served nothing yet: descriptors alone can be compared
	c, err := s.startClient()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	began := time.Now()
	first, err := s.run(ctx, c, errands{Requests: 1, Prefix: "frozen", Session: true})
	if err != nil {
		return "", err
	}
	waited := time.Since(began)
	taken, err := s.broker.await(ctx, 0, msgFellBack, fellBack(frozen))
	if err != nil {
		return "", err
	}
	lost, err := s.thawUntil(ctx, frozen, says(msgNotAdopted))
	if err != nil {
		return "", err
	}
	next, err := s.run(ctx, c, errands{Requests: 1, Prefix: "thawed", Session: true})
	if err != nil {
		return "", err
	}
	leak, err := s.settled(ctx, base)
	if err != nil {
		return "", err
	}
	s.fdsLeaked += leak
	times, err := s.ran(ctx, "frozen-0")
	err = errors.Join(err, first.allAnswered(), next.allAnswered(),
		check(taken.Outcome.Verdict == "not_taken" && taken.Outcome.Reached,
			"the broker's verdict is %q, descriptor reached the backend: %t", taken.Outcome.Verdict, taken.Outcome.Reached),
		check(lost.Reason == msgLost, "the thawed backend says %s", lost.Reason),
		check(first.onlyBy() != frozen.pid(), "the frozen backend answered"),
		check(next.Connections == 0 && next.onlyBy() == first.onlyBy(), "the conversation did not go on where it was"),
		check(times == 1, "the request ran %d times", times),
		check(leak == 0, "the thawed backend kept %d descriptors", leak))
	return fmt.Sprintf("frozen with the connection in hand; taken back, answered by %s after %.1f s; thawed: claim lost; ran once, and the connection goes on",
		s.nameOf(first.onlyBy()), waited.Seconds()), err
}

// killedBackend kills a backend that has a connection on its way.
func (s *stage) killedBackend(ctx context.Context) (string, error) {
	killed, err := s.startBackend(ctx, "backend-killed", FaultKillReceived)
	if err != nil {
		return "", err
	}
	t, err := s.send(ctx, errands{Requests: 1, Prefix: "killed"})
	if err != nil {
		return "", err
	}
	taken, err := s.broker.await(ctx, 0, msgFellBack, fellBack(killed))
	if err != nil {
		return "", err
	}
	if err := s.gone(ctx, killed); err != nil {
		return "", err
	}
	times, err := s.ran(ctx, "killed-0")
	err = errors.Join(err, t.allAnswered(),
		check(taken.Outcome.Verdict == "not_taken", "the broker's verdict is %q", taken.Outcome.Verdict),
		check(t.onlyBy() != killed.pid(), "the killed backend answered"),
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
	t, err := s.send(ctx, errands{Requests: 1, Prefix: "crashed"})
	if err != nil {
		return "", err
	}
	if err := s.gone(ctx, killed); err != nil {
		return "", err
	}
	times := s.executed()["crashed-0"] // killed's log is complete, nobody else has the request
	err = errors.Join(
		check(t.Unknown == 1, "the client did not report the outcome as unknown: %d answered, %v", t.answered(), t.Faults),
		check(times == 1, "the request ran %d times", times))
	return "killed after running the request; the client reports it as unknown and does not repeat it; ran once", err
}

// fellBack fits the broker's line about a handoff to p that failed.
func fellBack(p *process) func(*line) bool {
	return func(l *line) bool { return l.Msg == msgFellBack && l.BackendPID == p.pid() }
}

// thawInterval is how often a frozen process is told to continue: the first time
// may come before it has stopped.
const thawInterval = 50 * time.Millisecond

// thawUntil tells p to continue until it logs a line that fits.
func (s *stage) thawUntil(ctx context.Context, p *process, fits func(*line) bool) (*line, error) {
	if _, err := p.await(ctx, 0, msgFreezing, says(msgFreezing)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	thawed := make(chan struct{})
	go func() {
		defer close(thawed)
		for {
			if thaw(p.cmd.Process) != nil || !wait.For(ctx, thawInterval) {
				return
			}
		}
	}()
	defer func() { cancel(); <-thawed }()
	return p.await(ctx, 0, msgNotAdopted, fits)
}

// gone waits until p, which has killed itself, has been reaped and all it said
// is known.
func (s *stage) gone(ctx context.Context, p *process) error {
	timer := time.NewTimer(stepTimeout)
	defer timer.Stop()
	select {
	case <-p.ended:
		return nil
	case <-timer.C:
		return fmt.Errorf("%s did not die within %s", p.name, stepTimeout)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ran asks the standing backends how often they ran a request, and adds what the
// others said.
func (s *stage) ran(ctx context.Context, id string) (int, error) {
	reports, err := s.reports(ctx) // behind the lines that say what was executed
	if err != nil {
		return 0, err
	}
	standing := 0
	for _, r := range reports {
		standing += r.Executions[id]
	}
	times := s.executed()[id]
	return times, check(times >= standing, "the backends report %d runs of %s but logged %d", standing, id, times)
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
		if p.pid() == pid {
			return p.name
		}
	}
	return "nobody"
}

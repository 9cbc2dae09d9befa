package demo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/seed-7265657e/usher/internal/adminclient"
	"github.com/seed-7265657e/usher/internal/wire"
	"github.com/seed-7265657e/usher/internal/world"
)

const (
	upgrades     = 10
	loadClients  = 8
	upgradeLimit = 30 * time.Second // of one upgrade
)

// brokerUpgrade replaces the broker several times while clients keep coming. None may
// notice, and what the broker opened for that must be closed again.
func (s *stage) brokerUpgrade(ctx context.Context) (detail string, err error) {
	held, err := s.settleBroker(ctx)
	if err != nil {
		return "", err
	}
	kept, err := s.startClient(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, kept.Quit()) }()
	session := errands{Requests: 1, Prefix: "upgrade-kept-0", Session: true}
	errs := []error{s.run(ctx, kept, session).allAnswered()}
	stopLoad, err := s.load(ctx, "upgrade")
	if err != nil {
		return "", err
	}
	var slowest time.Duration
	for n := range upgrades {
		began := time.Now()
		if err := s.upgrade(ctx); err != nil {
			_, stopErr := stopLoad()
			return "", errors.Join(err, stopErr)
		}
		slowest = max(slowest, time.Since(began))
		session.Prefix = fmt.Sprintf("upgrade-kept-%d", n+1)
		t := s.run(ctx, kept, session)
		errs = append(errs, t.allAnswered(), check(t.Connections == 0, "the kept connection was made anew"))
	}
	sum, err := stopLoad()
	if err != nil {
		return "", err
	}
	if err := s.Registered(ctx, s.standing...); err != nil {
		return "", err
	}
	if _, err := s.reports(ctx); err != nil { // behind the lines that tell what has run
		return "", err
	}
	doubled := 0
	for id, times := range s.executed {
		if strings.HasPrefix(id, "upgrade-") && times > 1 {
			doubled++
		}
	}
	failed := sum.Requests - sum.answered() - sum.Refused + sum.Wrong
	errs = append(errs, s.lastSuccessorSettles(ctx, held),
		check(sum.Refused == 0 && failed == 0 && doubled == 0, "%d refused, %d failed, %d doubled: %s",
			sum.Refused, failed, doubled, strings.Join(sum.Faults, "; ")))
	return fmt.Sprintf("replaced %d times while %d clients made %d requests: %d refused, %d failed, %d doubled; each within %d ms; a kept connection goes on",
		upgrades, loadClients, sum.Requests, sum.Refused, failed, doubled, slowest.Milliseconds()), errors.Join(errs...)
}

// load has clients make requests, each on a fresh connection, until the function is called
// that it returns. That returns the sum of what became of them.
func (s *stage) load(ctx context.Context, prefix string) (stop func() (tally, error), err error) {
	var clients []*world.Process
	for n := range loadClients {
		c, err := s.startClient(ctx)
		if err != nil {
			return nil, err
		}
		clients = append(clients, c)
		if err := c.Tell(errands{Requests: math.MaxInt, Prefix: fmt.Sprintf("%s-%d", prefix, n), UntilTold: true}); err != nil {
			return nil, err
		}
	}
	return func() (sum tally, err error) {
		for _, c := range clients {
			err = errors.Join(err, c.EndInput())
		}
		for _, c := range clients {
			t := s.result(ctx, c, errands{})
			sum.add(t)
			err = errors.Join(err, c.Quit())
		}
		return sum, err
	}, nil
}

// add adds what became of other requests.
func (t *tally) add(other *tally) {
	t.Requests += other.Requests
	t.HandedOver += other.HandedOver
	t.Reconnected += other.Reconnected
	t.Unknown += other.Unknown
	t.Refused += other.Refused
	t.Lost += other.Lost
	t.Wrong += other.Wrong
	t.Faults = append(t.Faults, other.Faults...)
}

// upgrade has the broker replaced, as `usher upgrade` does.
func (s *stage) upgrade(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, upgradeLimit)
	defer cancel()
	reply, err := adminclient.Ask(ctx, s.Socket(), &wire.AdminRequest{Verb: wire.AdminVerb_ADMIN_VERB_UPGRADE})
	if err != nil {
		return err
	}
	if reply.ExitCode != 0 {
		return errors.New(strings.TrimSpace(reply.Body))
	}
	now, err := world.AskStatus(ctx, s.Socket())
	if err != nil {
		return err
	}
	if s.broker != nil { // the first one, which the demo has started
		if err := s.broker.Wait(ctx); err != nil {
			return fmt.Errorf("%s, replaced: %w", s.broker.Name, err)
		}
		s.broker = nil
	}
	s.successors = append(s.successors, now.BrokerPID)
	return nil
}

// lastSuccessorSettles waits until the broker that serves now holds no more than the first
// one did, and all others have ended.
func (s *stage) lastSuccessorSettles(ctx context.Context, held world.Held) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	earlier, last := s.successors[:len(s.successors)-1], s.successors[len(s.successors)-1]
	var now world.Held
	err := world.Until(ctx, fmt.Sprintf("the last broker holds %d descriptors, and the others have ended", held.Descriptors), func() (holds bool, err error) {
		now, err = world.Holds(last)
		holds = now.Beyond(held) == 0
		for _, pid := range earlier {
			holds = holds && world.Ended(pid)
		}
		return holds, err
	})
	if err != nil {
		s.fdsLeaked += now.Beyond(held)
		return fmt.Errorf("%w: it holds %d", err, now.Descriptors)
	}
	return nil
}

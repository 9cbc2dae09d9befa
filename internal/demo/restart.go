package demo

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// brokerRestart kills the broker. Connections that were handed over don't
// notice; backends register with the next broker by themselves.
func (s *stage) brokerRestart(ctx context.Context) (detail string, err error) {
	if _, err := s.settleBroker(ctx); err != nil {
		return "", err
	}
	kept, err := s.startClient(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, kept.Quit()) }()
	before := s.run(ctx, kept, errands{Requests: 3, Prefix: "kept-before", Session: true})
	s.broker.Kill()
	without := s.run(ctx, kept, errands{Requests: 3, Prefix: "kept-without", Session: true})
	began := time.Now()
	if err := s.startBroker(ctx, "broker-2"); err != nil {
		return "", err
	}
	if err := s.Registered(ctx, s.standing...); err != nil {
		return "", err
	}
	back := time.Since(began)
	after := s.run(ctx, kept, errands{Requests: 3, Prefix: "kept-after", Session: true})
	// Before the baseline of the new broker, for which all else must be over.
	if err := s.warm(ctx); err != nil {
		return "", err
	}
	if err := s.takeBaselines(ctx, s.broker); err != nil {
		return "", err
	}
	fresh := s.send(ctx, errands{Requests: 3, Prefix: "fresh"})
	err = errors.Join(before.allAnswered(), without.allAnswered(), after.allAnswered(), fresh.allAnswered(),
		check(before.Connections == 1 && without.Connections == 0 && after.Connections == 0,
			"the kept connection was made anew: %d, %d and %d connections", before.Connections, without.Connections, after.Connections),
		check(fresh.HandedOver == fresh.Requests, "%d of %d requests handed over by the new broker", fresh.HandedOver, fresh.Requests))
	return fmt.Sprintf("killed; a kept connection answered before, without and after; %d backends registered again within %d ms; new requests handed over",
		len(s.standing), back.Milliseconds()), err
}

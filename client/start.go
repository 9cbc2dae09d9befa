package client

import (
	"context"
	"time"
)

// starting is a call of Options.Start.
type starting struct {
	done chan struct{} // closed when it has returned
	err  error         // what it returned; read after done
}

// start calls f, until its time is over or the stream needs it no more.
func (s *stream) start(f func(context.Context) error, by time.Time) *starting {
	ctx, cancel := context.WithDeadline(context.Background(), by)
	s.mu.Lock()
	if s.state == closed {
		cancel()
	}
	s.endStart = cancel
	s.mu.Unlock()
	c := &starting{done: make(chan struct{})}
	go func() { // until f returns, which it does when ctx ends
		defer close(c.done)
		defer cancel()
		c.err = f(ctx)
	}()
	return c
}

func (c *starting) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

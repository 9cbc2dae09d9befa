package broker

import (
	"context"
	"errors"
	"time"

	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/wait"
	"github.com/seed-7265657e/usher/internal/watch"
)

// newSocketWatch is the seam to inotify, which a system may refuse.
var newSocketWatch = watch.NewWaiter

// socketCheck is how often the socket's name is looked at where no watch tells.
const socketCheck = time.Second

// watchSocket looks whether the socket's name still leads here, whenever something has
// happened on the way to it. If it certainly does not, nobody can reach this broker and a
// successor may be starting: it ends. A name that can't be looked at just now proves
// nothing. Without w it looks now and then, for the reason err.
func (s *server) watchSocket(ctx context.Context, w *watch.Waiter, err error) {
	if err != nil {
		s.jobs.post(func() { s.emit(event.SocketUnwatched{Problem: err.Error()}) })
	} else {
		defer w.Close()
	}
	unknown := false
	for {
		watched := err == nil && w.Add(s.binding.Path) == nil // first: what happens after the look is told
		check := s.binding.Check()
		switch {
		case errors.Is(check, ErrReplaced):
			s.jobs.post(func() { s.emit(event.SocketReplaced{Problem: check.Error()}) })
			s.shutDown(check)
			return
		case check != nil && !unknown:
			s.jobs.post(func() { s.emit(event.SocketUnknown{Problem: check.Error()}) })
		case check == nil && unknown:
			s.jobs.post(func() { s.emit(event.SocketKnown{}) })
		}
		unknown = check != nil
		watched = watched && !unknown && w.Wait(ctx) == nil
		if !watched && !wait.For(ctx, socketCheck) {
			return
		}
	}
}

package broker

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/launch"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/wait"
	"github.com/seed-7265657e/usher/internal/watch"
)

// This file is the start of a program that has a listener of its own, and no channel to the
// broker: it is ready when it answers there, or says so. Otherwise it is an instance like any other
// (start.go), but that it ends with the broker, which could not find it again.

// startListener begins to start the program of t.
func (s *server) startListener(t *target, now time.Time) (*starting, error) {
	p, address := definedProgram(t), t.start.Address
	e := &entry{Key: t.key, ExePath: p.path, Pipe: t.start.Socket(), Since: now, Handle: newBackend(nil, nil)}
	e.Handle.listens = true
	st := &starting{entry: e, deadline: now.Add(p.startTimeout())}
	job, work := s.launching(t.key), s.jobs.work
	var begin func() (launched, error)
	if t.start.Mode == service.ListenFDs {
		pass, err := s.passSocket(e, t.start)
		if err != nil {
			return nil, err
		}
		st.answers = pass.ready
		begin = func() (launched, error) { return job.launchWith(work, p, pass) }
	} else {
		st.answers = func(ctx context.Context) bool { return answers(ctx, address) }
		begin = func() (l launched, err error) {
			if err := awaitVacant(work, address, st.deadline); err != nil {
				return l, err
			}
			return job.launch(work, p, nil)
		}
	}
	s.starts.pending[t.key] = st
	s.starts.begun(t.key, now)
	s.loop.WakeAt(st.deadline)
	s.jobs.readers.Go(func() { // its file system may never answer
		defer p.close()
		l, err := begin()
		if !s.jobs.post(func() { s.launched(st, l, err) }) && err == nil {
			l.End(context.WithoutCancel(work), listenerGrace)
		}
	})
	return st, nil
}

// Pauses between two tries to connect to a program, where nothing tells that it listens.
const (
	firstTry = time.Millisecond
	lastTry  = 100 * time.Millisecond
)

// awaitVacant waits until nobody answers at address: the program of a broker before this one
// may be about to end.
func awaitVacant(ctx context.Context, address string, by time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, by)
	defer cancel()
	for pause := firstTry; ; pause = min(2*pause, lastTry) {
		c, err := dialProgram(ctx, address)
		if err != nil {
			return nil
		}
		_ = c.Close()
		if !wait.For(ctx, pause) {
			return fmt.Errorf("another program answers at %s", address)
		}
	}
}

// awaitListener has a program ready as soon as it accepts connections. The wait ends with the
// start, at its deadline, or when the program ends.
func (s *server) awaitListener(starting *starting) {
	e := starting.entry
	ctx, cancel := context.WithDeadline(s.jobs.work, starting.deadline)
	starting.settled = cancel
	s.jobs.wg.Go(func() {
		if starting.answers(ctx) {
			s.jobs.post(func() { s.becameReady(e, e.Pipe) })
		}
	})
}

func (st *starting) settle() {
	if st.settled != nil {
		st.settled()
	}
}

// answers waits until somebody answers at address; it is false when ctx has ended before.
func answers(ctx context.Context, address string) bool {
	var w *watch.Waiter
	if filepath.IsAbs(address) {
		var err error
		if w, err = watch.NewWaiter(); err == nil {
			defer w.Close()
			_ = w.AddName(address) // without, it is tried now and then
		}
	}
	for pause := firstTry; ; pause = min(2*pause, lastTry) {
		c, err := dialProgram(ctx, address)
		if err == nil {
			_ = c.Close()
			return true
		}
		if await(ctx, w, pause); ctx.Err() != nil {
			return false
		}
	}
}

// leave gives up a process that lives when the broker's work ends.
func (s *server) leave(e *entry, l launched) {
	if !e.Handle.listens {
		l.Release() // it looks for the next broker
		return
	}
	exit := l.End(context.WithoutCancel(s.jobs.work), listenerGrace)
	s.jobs.post(func() { s.emit(event.Exited{Backend: known(e), Exit: exit.String(), Clean: exit == launch.Exit{}}) })
}

// listenerGrace is how long a program with a listener of its own has to end with the broker,
// and to write what it has to.
const listenerGrace = 5 * time.Second

package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/launch"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/stamp"
	"github.com/seed-7265657e/usher/internal/wait"
	"github.com/seed-7265657e/usher/internal/watch"
)

// This file is the start of a program that has a listener of its own, and no channel to the
// broker: it is ready when it has said so, where its definition has that, and answers there.
// Otherwise it is an instance like any other (start.go), but that it ends with the broker,
// which could not find it again.

// startListener begins to start the program of t.
func (s *server) startListener(t *target, now time.Time) (*starting, error) {
	p, address := definedProgram(t), t.start.Address
	e := &entry{Key: t.key, ExePath: p.path, Pipe: t.start.Socket(), Since: now, Handle: newBackend(nil, nil)}
	e.Handle.listens, e.Handle.address = true, address
	st := &starting{entry: e, known: make(chan struct{}), deadline: now.Add(p.startTimeout())}
	job, work := s.launching(t.key), s.jobs.work
	ctx, settled := context.WithDeadline(work, st.deadline)
	st.settled = settled
	var notify *notifySocket
	if t.start.Notify {
		var err error
		if notify, err = s.listenNotify(ctx, p); err != nil {
			settled()
			return nil, err
		}
	}
	var begin func() (launched, error)
	if t.start.Mode == service.ListenFDs {
		pass, err := s.passSocket(e, t.start)
		if err != nil {
			settled()
			return nil, err
		}
		st.answers = notify.ready
		begin = func() (launched, error) { return job.launchWith(work, p, pass) }
	} else {
		before := s.endAt(t.key.Service, address)
		e.Handle.over = make(chan struct{})
		st.answers = func() bool { return notify.ready() && answers(ctx, address) }
		begin = func() (l launched, err error) {
			if err := awaitVacant(ctx, address, before); err != nil {
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

// endAt lets the programs of a service go that listen at address, or are about to: the definition
// asks for another version by now, and there is one address. What is returned is closed when
// they, and those that were let go before, have ended: one that ends may remove the name that
// the next one has bound, and one that still starts would bind it beside that.
func (s *server) endAt(service, address string) (over []<-chan struct{}) {
	at := func(e *entry) bool {
		return e.Service == service && e.Handle.over != nil && e.Handle.address == address
	}
	for _, e := range s.backends.All() {
		if at(e) && !e.Handle.gone() {
			s.letGo(e, event.Replaced)
		}
	}
	for e := range s.leaving {
		if at(e) {
			over = append(over, e.Handle.over)
		}
	}
	for _, starting := range s.starts.pending {
		if at(starting.entry) {
			starting.succeeded = true
			s.stopStarting(starting)
			over = append(over, starting.entry.Handle.over)
		}
	}
	return over
}

// awaitVacant waits until those before have ended, and nobody answers at address: the program
// of a broker before this one may be about to end.
func awaitVacant(ctx context.Context, address string, before []<-chan struct{}) error {
	for _, over := range before {
		select {
		case <-over:
		case <-ctx.Done():
			return fmt.Errorf("the program before it has not ended: %w", ctx.Err())
		}
	}
	for pause := firstTry; ; pause = min(2*pause, lastTry) {
		c, err := dialProgram(ctx, address)
		var late net.Error
		switch {
		case err == nil:
			_ = c.Close()
		case errors.As(err, &late) && late.Timeout(): // somebody listens, and does not accept
		case ctx.Err() == nil:
			return nil
		}
		if !wait.For(ctx, pause) {
			if errors.Is(ctx.Err(), context.Canceled) { // nobody waits for it any more
				return ctx.Err()
			}
			return fmt.Errorf("another program answers at %s", address)
		}
	}
}

// awaitListener has a program ready as soon as it accepts connections. The wait ends with the
// start, at its deadline, or when the program ends.
func (s *server) awaitListener(starting *starting) {
	e := starting.entry
	s.jobs.wg.Go(func() {
		if starting.answers() {
			local := stamp.Local(e.Pipe)
			s.jobs.post(func() { e.Handle.local = local; s.becameReady(e, e.Pipe) })
		}
	})
}

// settle ends that wait, and the one for the start.
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
	passed := false
	s.jobs.asked(func() { passed = e.Handle.passed })
	if !e.Handle.listens || passed {
		l.Release() // it looks for the next broker, or is that one's
		return
	}
	exit := l.End(context.WithoutCancel(s.jobs.work), listenerGrace)
	s.jobs.post(func() { s.emit(event.Exited{Backend: known(e), Exit: exit.Known(), Clean: exit == launch.Exit{}}) })
}

// listenerGrace is how long a program with a listener of its own has to end with the broker,
// and to write what it has to.
const listenerGrace = 5 * time.Second

// listensFor reports whether a program listens where start says; one whose socket is closed has
// been let go. A listener can't be shared by two builds: the one that has it serves.
func (b *backend) listensFor(start *service.StartPolicy) bool {
	return b.listens && start.OwnListener() && b.address == start.Address && (b.socket == nil) == (start.Mode == service.Relay)
}

// endOthers lets the programs of a service go that one with a listener of its own has taken
// the place of: they listen elsewhere, where nobody is sent any more.
func (s *server) endOthers(e *entry) {
	if !e.Handle.listens {
		return
	}
	for _, o := range s.backends.All() {
		if o != e && o.Service == e.Service && o.Handle.listens && !o.Handle.gone() {
			s.letGo(o, event.Replaced)
		}
	}
}

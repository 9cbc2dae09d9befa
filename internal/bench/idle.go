package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/seed-7265657e/usher/bench/cfloor"
	"github.com/seed-7265657e/usher/internal/wait"
	"github.com/seed-7265657e/usher/internal/world"
)

// IdleFigures count how often processes with nothing to do are woken: context switches,
// voluntary or not, of all their threads. The keys say 20 s, whatever Seconds is.
type IdleFigures struct {
	Broker       int64   `json:"broker_wakeups_20s"`
	Backend      int64   `json:"backend_wakeups_20s"`       // that is registered with it
	BackendAlone int64   `json:"backend_alone_wakeups_20s"` // whose broker has gone
	Seconds      float64 `json:"seconds"`
}

// Bounds of how long Idle counts.
const (
	DefaultIdle = 20 * time.Second
	MaxIdle     = time.Hour
)

const (
	// settled is how long nobody may have been woken before the count begins, and settleBy
	// when it begins all the same.
	settled  = 2 * time.Second
	settleBy = 15 * time.Second
	between  = 100 * time.Millisecond
)

// Idle measures IdleFigures for a time.
func Idle(ctx context.Context, o Options, span time.Duration) (f *IdleFigures, err error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	w, err := world.New(ctx, serviceName, o.Program)
	if err != nil {
		return nil, err
	}
	s := &site{World: w, program: o.Program, claims: cfloor.Page}
	defer func() { err = errors.Join(err, s.Close()) }()
	var lone [2]*world.Process
	var pair [2]*world.Process
	for i, p := range []*[2]*world.Process{&lone, &pair} {
		socket := s.SocketNamed(fmt.Sprintf("%d", i))
		if p[0], err = s.start(ctx, socket, "broker"); err != nil {
			return nil, err
		}
		if p[1], err = s.start(ctx, socket, "backend", "--pipe", s.SocketNamed(fmt.Sprintf("%dp", i))); err != nil {
			return nil, err
		}
	}
	if err := lone[0].Quit(); err != nil {
		return nil, err
	}
	idle := []*world.Process{pair[0], pair[1], lone[1]}
	o.Progress("until all is quiet")
	from, err := settle(ctx, idle)
	if err != nil {
		return nil, err
	}
	o.Progress(fmt.Sprintf("counting for %v", span))
	if !wait.For(ctx, span) {
		return nil, ctx.Err()
	}
	to, err := wakeups(idle)
	if err != nil {
		return nil, err
	}
	f = &IdleFigures{Broker: to[0] - from[0], Backend: to[1] - from[1], BackendAlone: to[2] - from[2], Seconds: span.Seconds()}
	for _, p := range idle {
		err = errors.Join(err, p.Quit())
	}
	return f, err
}

// settle waits until nobody has been woken for a while, and returns the counts.
func settle(ctx context.Context, of []*world.Process) (counts []int64, err error) {
	by := time.Now().Add(settleBy)
	since := time.Now()
	for {
		now, err := wakeups(of)
		if err != nil {
			return nil, err
		}
		if fmt.Sprint(now) != fmt.Sprint(counts) {
			counts, since = now, time.Now()
		}
		if time.Since(since) >= settled || time.Now().After(by) {
			return counts, nil
		}
		if !wait.For(ctx, between) {
			return nil, ctx.Err()
		}
	}
}

func wakeups(of []*world.Process) (counts []int64, err error) {
	for _, p := range of {
		n, countErr := p.Switches()
		counts, err = append(counts, n), errors.Join(err, countErr)
	}
	return counts, err
}

// Write shows the figures as text.
func (f *IdleFigures) Write(w io.Writer) error {
	t := newTable(w)
	t.row("woken in %g s, all threads\t\tgoal", f.Seconds)
	for i, n := range []int64{f.Broker, f.Backend, f.BackendAlone} {
		t.row("  %s\t%d\t0, %s", strings.Split("a broker with one backend,the backend,a backend whose broker has gone", ",")[i], n, met(n == 0))
	}
	return t.Flush()
}

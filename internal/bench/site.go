package bench

import (
	"context"
	"errors"
	"os"

	"github.com/seed-7265657e/usher/bench/cfloor"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/world"
)

const socketVariable = endpoint.SocketVariable

// site is where processes run, and which.
type site struct {
	*world.World
	program string
	floor   string                    // the C floor's program; empty without a compiler
	claims  cfloor.Claims             // of the C floor
	noFloor error                     // why it is empty
	tracer  func(who string) []string // what runs usher's processes, in tests
}

func newSite(ctx context.Context, program string, claims cfloor.Claims) (*site, error) {
	w, err := world.New(ctx, serviceName, program)
	if err != nil {
		return nil, err
	}
	s := &site{World: w, program: program, claims: claims}
	s.floor, s.noFloor = cfloor.Build(ctx, s.Dir)
	if ctx.Err() != nil {
		return nil, errors.Join(ctx.Err(), s.Close())
	}
	return s, nil
}

// start starts a process in one of the roles and waits until it is ready.
func (s *site) start(ctx context.Context, socket, who string, args ...string) (*world.Process, error) {
	c := world.Command{Name: who, Env: []string{socketVariable + "=" + socket}, Stderr: os.Stderr}
	if s.tracer != nil {
		c.Args = s.tracer(who)
	}
	c.Args = append(append(c.Args, s.program, "bench-role", who), args...)
	p, err := s.Start(c)
	if err != nil {
		return nil, err
	}
	return p, p.Ready(ctx)
}

// processes is one set of them: a client, usher with inline and with plain backends,
// and the C floor.
type processes struct {
	client                   *world.Process
	inline, plain            target
	inlineBroker, inlineBack *world.Process
	all                      []*world.Process
	floor                    *cfloor.Floor // nil without one
}

func (s *site) raise(ctx context.Context) (w *processes, err error) {
	w = &processes{
		inline: target{s.SocketNamed("i"), s.SocketNamed("ip")},
		plain:  target{s.SocketNamed("p"), s.SocketNamed("pp")},
	}
	add := func(p *world.Process, startErr error) *world.Process {
		w.all, err = append(w.all, p), errors.Join(err, startErr)
		return p
	}
	w.inlineBroker = add(s.start(ctx, w.inline.Socket, "broker"))
	w.inlineBack = add(s.start(ctx, w.inline.Socket, "backend", "--pipe", w.inline.Pipe, "--inline"))
	add(s.start(ctx, w.plain.Socket, "broker"))
	add(s.start(ctx, w.plain.Socket, "backend", "--pipe", w.plain.Pipe))
	w.client = add(s.start(ctx, "", "client"))
	if err == nil && s.floor != "" {
		w.floor, err = cfloor.Start(ctx, s.World, s.floor, s.claims)
	}
	if err != nil {
		return nil, err // what has been started ends with the site
	}
	return w, nil
}

// end stops every process, the client first.
func (w *processes) end() error {
	var errs []error
	for i := len(w.all) - 1; i >= 0; i-- {
		errs = append(errs, w.all[i].Quit())
	}
	if w.floor != nil {
		errs = append(errs, w.floor.Quit())
	}
	return errors.Join(errs...)
}

func (w *processes) floorTarget() target { return target{w.floor.Socket, w.floor.Pipe} }

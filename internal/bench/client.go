package bench

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/seed-7265657e/usher/client"
)

// Arms are the ways to get an answer.
const (
	handedOver = "handed over"                // D: the request goes along with Hello
	reconnect  = "reconnect"                  // R: ask the broker, dial the backend
	afterReply = "handed over, no early data" // P: the request follows the reply, as in v1
	helloSkip  = "hello skip"
	direct     = "direct"
)

// target is one stack: a broker with a backend behind it.
type target struct {
	Socket string `json:"socket"`
	Pipe   string `json:"pipe"`
}

// once connects, sends a request, reads its answer and returns how long that took.
// Closing is not a part of it.
func (t target) once(ctx context.Context, arm string, req, answer []byte) (time.Duration, error) {
	opts := client.Options{Service: serviceName, Version: version, Broker: t.Socket, NoHandoff: arm == reconnect}
	began := time.Now()
	c, err := t.dial(ctx, arm, opts, req)
	if err != nil {
		return 0, err
	}
	_, err = io.ReadFull(c, answer)
	took := time.Since(began)
	_ = c.Close()
	return took, err
}

func (t target) dial(ctx context.Context, arm string, opts client.Options, req []byte) (net.Conn, error) {
	switch arm {
	case handedOver, reconnect:
		return client.DialWith(ctx, opts, req)
	case direct:
		c, err := dialPlainly(t.Pipe)
		if err == nil {
			_, err = c.Write(req)
		}
		return c, err
	case helloSkip:
		opts.CachedEndpoint, opts.OwnVersion = t.Pipe, version
	}
	c, err := client.Dial(ctx, opts)
	if err == nil {
		_, err = c.Write(req)
	}
	return c, err
}

// rounds measures arms on stacks: the stacks alternate in bursts, the arms in
// random order within each round.
type rounds struct {
	Targets []target `json:"targets"`
	Arms    []string `json:"arms"`
	Warm    int      `json:"warm"`  // rounds per stack that are not kept
	Pairs   int      `json:"pairs"` // rounds per stack that are
	GapUS   int      `json:"gap_us"`
	Seed    uint64   `json:"seed"`
	Stamp   bool     `json:"stamp,omitempty"` // tell when each round of the first stack's first arm began
}

const (
	burst     = 20
	burstDrop = 3 // rounds at the beginning of a burst, while the stack gets warm
)

func (r *rounds) run(ctx context.Context) (result, error) {
	rng := rand.New(rand.NewPCG(r.Seed, 0))
	samples := make([][][]float64, len(r.Targets))
	for i := range samples {
		samples[i] = make([][]float64, len(r.Arms))
		for j := range samples[i] {
			samples[i][j] = make([]float64, 0, r.Pairs)
		}
	}
	req, answer := make([]byte, request), make([]byte, request)
	order := rng.Perm(len(r.Arms))
	warm := r.Warm
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	done := 0
	var stamps []int64
	for len(samples[0][0]) < r.Pairs {
		for i, t := range r.Targets {
			for n := range burst {
				rng.Shuffle(len(order), func(a, b int) { order[a], order[b] = order[b], order[a] })
				for _, j := range order {
					if r.GapUS > 0 {
						time.Sleep(time.Duration(r.GapUS) * time.Microsecond)
					}
					began := time.Now().UnixNano()
					took, err := t.once(ctx, r.Arms[j], req, answer)
					if err != nil {
						return result{}, fmt.Errorf("%s: %w", r.Arms[j], err)
					}
					done++
					if warm <= 0 && n >= burstDrop && len(samples[i][j]) < r.Pairs {
						if r.Stamp && i == 0 && j == 0 {
							stamps = append(stamps, began)
						}
						samples[i][j] = append(samples[i][j], float64(took.Nanoseconds())/1e3)
					}
				}
			}
		}
		warm -= burst
	}
	runtime.ReadMemStats(&after)
	return result{Samples: samples, Began: stamps, Done: done, Mallocs: after.Mallocs - before.Mallocs}, nil
}

// load has clients ask one stack in a closed loop.
type load struct {
	Target  target  `json:"target"`
	Clients int     `json:"clients"`
	Seconds float64 `json:"seconds"`
}

func (l *load) run(ctx context.Context) (result, error) {
	var wg sync.WaitGroup
	errs := make([]error, l.Clients)
	took := make([][]float64, l.Clients)
	began := time.Now()
	end := began.Add(time.Duration(l.Seconds * float64(time.Second)))
	for i := range l.Clients {
		wg.Go(func() {
			req, answer := make([]byte, request), make([]byte, request)
			for time.Now().Before(end) {
				d, err := l.Target.once(ctx, handedOver, req, answer)
				if err != nil {
					errs[i] = err
					return
				}
				took[i] = append(took[i], float64(d.Nanoseconds())/1e3)
			}
		})
	}
	wg.Wait()
	r := result{Seconds: time.Since(began).Seconds(), Samples: [][][]float64{{{}}}}
	for i := range took {
		if errs[i] != nil {
			return result{}, errs[i]
		}
		r.Samples[0][0] = append(r.Samples[0][0], took[i]...)
	}
	r.Done = len(r.Samples[0][0])
	return r, nil
}

// data measures two open connections in turns, one handed over, one dialled
// directly: round trips, then transfers of a gulp. Who goes first is random.
type data struct {
	Target target `json:"target"`
	Trips  int    `json:"trips"`
	Gulps  int    `json:"gulps"`
	Seed   uint64 `json:"seed"`
}

// dataArms are the two connections, in the order of the samples.
var dataArms = [...]string{handedOver, direct}

// run returns the trips as the first series of samples, the transfers as the second.
func (d *data) run(ctx context.Context) (result, error) {
	req, answer := make([]byte, request), make([]byte, request)
	opts := client.Options{Service: serviceName, Version: version, Broker: d.Target.Socket}
	var conns [len(dataArms)]net.Conn
	for i, arm := range dataArms {
		c, err := d.Target.dial(ctx, arm, opts, req)
		if err != nil {
			return result{}, err
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.ReadFull(c, answer); err != nil {
			return result{}, err
		}
		conns[i] = c
	}
	rng := rand.New(rand.NewPCG(d.Seed, 0))
	inTurns := func(rounds int, measure func(net.Conn) error) (took [][]float64, err error) {
		took = make([][]float64, len(conns))
		for range rounds {
			for _, i := range rng.Perm(len(conns)) {
				began := time.Now()
				if err := measure(conns[i]); err != nil {
					return nil, err
				}
				took[i] = append(took[i], float64(time.Since(began).Nanoseconds())/1e3)
			}
		}
		return took, nil
	}
	trips, err := inTurns(d.Trips, func(c net.Conn) error {
		if _, err := c.Write(req); err != nil {
			return err
		}
		_, err := io.ReadFull(c, answer)
		return err
	})
	if err != nil {
		return result{}, err
	}
	for _, c := range conns {
		if _, err := c.Write([]byte{drinkMark}); err != nil {
			return result{}, err
		}
	}
	time.Sleep(time.Millisecond) // so that the mark is read by itself
	chunk := make([]byte, bulk)
	gulps, err := inTurns(d.Gulps, func(c net.Conn) error {
		for range gulp / bulk {
			if _, err := c.Write(chunk); err != nil {
				return err
			}
		}
		_, err := io.ReadFull(c, answer[:1])
		return err
	})
	return result{Samples: [][][]float64{trips, gulps}}, err
}

// hold changes how many handed-over connections the client process keeps open.
type hold struct {
	Target target `json:"target"`
	Number int    `json:"number"`
}

// holder holds connections, to the end of the process.
type holder struct{ conns []net.Conn }

func (h *holder) hold(ctx context.Context, o *hold) (result, error) {
	req, answer := make([]byte, request), make([]byte, request)
	for len(h.conns) < o.Number {
		c, err := client.DialWith(ctx, client.Options{Service: serviceName, Version: version, Broker: o.Target.Socket}, req)
		if err != nil {
			return result{}, err
		}
		h.conns = append(h.conns, c)
		if _, err := io.ReadFull(c, answer); err != nil {
			return result{}, err
		}
		if c.Route() != client.HandedOver {
			return result{}, fmt.Errorf("connection %d was not handed over", len(h.conns))
		}
	}
	for len(h.conns) > o.Number {
		last := len(h.conns) - 1
		_ = h.conns[last].Close()
		h.conns = h.conns[:last]
	}
	return result{Done: len(h.conns)}, nil
}

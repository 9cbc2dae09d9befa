package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/internal/world"
)

// This file is what the benchmark's child processes run: each converses with the
// benchmark until its standard input ends.

const (
	serviceName = "bench"
	version     = "1.0.0"
	request     = 64 // bytes of a request, and of its answer
)

// usage is what a process says about itself.
type usage struct {
	Mallocs uint64   `json:"mallocs"` // since it started
	Passed  []passed `json:"passed,omitempty"`
}

// question is what a broker or backend is asked.
type question struct {
	// Record has the points of connections' lives recorded from now on, and says which
	// have been.
	Record bool `json:"record,omitempty"`
}

// answerer answers questions.
func answerer() func(question) (usage, error) {
	var r recorder
	return func(q question) (usage, error) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		u := usage{Mallocs: m.Mallocs}
		if q.Record {
			u.Passed = r.begin()
		}
		return u, nil
	}
}

var quiet = slog.New(slog.DiscardHandler)

// RunBroker is a broker with the default options, but for the rate of Hellos that
// one process may send, which a benchmark exceeds on purpose.
func RunBroker(ctx context.Context, in io.Reader, out io.Writer) error {
	b, err := broker.Listen(broker.Options{Socket: os.Getenv(socketVariable), HelloRate: 1 << 30, Logger: quiet})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- b.Serve(ctx) }()
	err = world.Converse(in, out, answerer())
	cancel()
	return errors.Join(err, <-served)
}

// RunBackend echoes. inline answers first requests on the SDK's loop; without it
// there is nothing but Accept and a goroutine for each connection.
func RunBackend(ctx context.Context, inline bool, pipe string, in io.Reader, out io.Writer) error {
	opts := backend.Options{Service: serviceName, Version: version, Pipe: pipe, Logger: quiet, Backlog: 1024}
	if inline {
		opts.Inline = func(answer, request []byte) ([]byte, bool) { return append(answer, request...), true }
	}
	ln, err := backend.Listen(ctx, opts)
	if err != nil {
		return err
	}
	if err := ln.WaitRegistered(ctx); err != nil {
		return errors.Join(err, ln.Close())
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go echo(c)
		}
	}()
	return errors.Join(world.Converse(in, out, answerer()), ln.Close()) // connections end with the process
}

// echo sends back what it reads.
func echo(c net.Conn) {
	defer func() { _ = c.Close() }()
	buf := make([]byte, 4<<10)
	for n, err := c.Read(buf); err == nil; n, err = c.Read(buf) {
		if n == 1 && buf[0] == drinkMark {
			drink(c)
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

const (
	drinkMark = 0xff // a request of this byte alone: count what follows
	bulk      = 64 << 10
	gulp      = 4 << 20 // bytes of one measured transfer
)

// drink reads to the end, and answers every gulp with one byte.
func drink(c net.Conn) {
	buf := make([]byte, bulk)
	for had := 0; ; {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if had += n; had >= gulp {
			had -= gulp
			if _, err := c.Write(buf[:1]); err != nil {
				return
			}
		}
	}
}

// RunClient makes the rounds that it is asked for.
func RunClient(ctx context.Context, in io.Reader, out io.Writer) error {
	h := &holder{}
	return world.Converse(in, out, func(q order) (result, error) {
		switch {
		case q.Rounds != nil:
			return q.Rounds.run(ctx)
		case q.Load != nil:
			return q.Load.run(ctx)
		case q.Data != nil:
			return q.Data.run(ctx)
		case q.Hold != nil:
			return h.hold(ctx, q.Hold)
		}
		return result{}, fmt.Errorf("nothing to do")
	})
}

// order is what the client process is asked to do: one of them.
type order struct {
	Rounds *rounds `json:"rounds,omitempty"`
	Load   *load   `json:"load,omitempty"`
	Data   *data   `json:"data,omitempty"`
	Hold   *hold   `json:"hold,omitempty"`
}

// result is what came of an order.
type result struct {
	// Samples are latencies in µs: by stack, by arm, in the order of the rounds.
	Samples [][][]float64 `json:"samples,omitempty"`
	Began   []int64       `json:"began,omitempty"` // of the first stack's first arm: Unix time, ns
	Done    int           `json:"done,omitempty"`
	Seconds float64       `json:"seconds,omitempty"`
	Mallocs uint64        `json:"mallocs,omitempty"`
}

package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/unixconn"
)

// attempts is how often the broker is asked when the connection ends before a
// verdict and nothing can have been run, or the backend it named is gone.
const attempts = 3

// MaxEarlyData is how long a first request may be, in bytes, to go along with
// Hello.
const MaxEarlyData = 16 << 10

// Dial connects to the wanted service and returns a *Conn, in this order:
//
//	skip       the cached endpoint, if the Hello-skip rule allows it
//	hello      connect to the broker, send Hello, read its verdict
//	ready      handed over: the ready event ends the handoff
//	reconnect  not handed over: dial the pipe the broker named
//
// It sends nothing but Hello, so whatever fails, no request has been run.
// Errors: *RefusedError; ErrBrokerUnreachable; ErrBackendUnreachable;
// ErrBrokerDisabled; ErrNoAnswer when Timeout or ctx's deadline passed; ctx's
// own error when it was cancelled. ctx and Options.Timeout bound the
// call, not the connection.
//
// Where the broker has handed over to this service before, Dial returns at once:
// the first Write sends Hello and takes its bytes along, if they are at most
// MaxEarlyData; a Read that comes first sends Hello alone. The errors above then
// come from that Write or Read. Options.Eager turns this off.
func Dial(ctx context.Context, opts Options) (*Conn, error) { return open(ctx, opts, false) }

// DialWith connects to the wanted service and sends it the first request, which
// goes along with Hello when it is at most MaxEarlyData long. The verdict is known
// when it returns, and Read gives the answer.
//
// Errors are those of Dial, and then the request has not been run; or
// ErrOutcomeUnknown when the connection failed before its verdict, unless
// Options.Idempotent has it sent again.
func DialWith(ctx context.Context, opts Options, request []byte) (*Conn, error) {
	d, err := prepare(opts)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, verdict(ctx, err)
	}
	early := request
	if len(request) > MaxEarlyData || d.NoHandoff {
		early = nil
	}
	conn := d.skip()
	if conn == nil {
		o, err := d.run(ctx, early, time.Now().Add(d.Timeout))
		if err != nil {
			return nil, err
		}
		conn = newConn(d, o)
		if len(early) > 0 {
			conn.sent.Store(true)
			return conn, nil
		}
	}
	if len(request) > 0 {
		if _, err := conn.Write(request); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

// open is Dial; writesFirst says that the connection's user writes before it
// reads, whatever order its goroutines run in.
func open(ctx context.Context, opts Options, writesFirst bool) (*Conn, error) {
	d, err := prepare(opts)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, verdict(ctx, err)
	}
	if conn := d.skip(); conn != nil {
		return conn, nil
	}
	if !d.Eager && !d.NoHandoff && knownUsher.has(d.key()) {
		return newLazyConn(d, writesFirst), nil
	}
	o, err := d.run(ctx, nil, time.Now().Add(d.Timeout))
	if err != nil {
		return nil, err
	}
	return newConn(d, o), nil
}

func prepare(opts Options) (*dialing, error) {
	if err := checkEnabled(); err != nil {
		return nil, err
	}
	if err := opts.complete(); err != nil {
		return nil, err
	}
	d := &dialing{Options: opts}
	_, err := d.hello(0) // what is wrong with the Options shows here
	return d, err
}

// errEnded says that the broker's connection ended without a verdict.
var errEnded = fmt.Errorf("%w: it ended the connection without an answer", ErrBrokerUnreachable)

// dialing is the making of one connection.
type dialing struct{ Options }

// opened is a connection to a backend.
type opened struct {
	conn     *unixconn.Conn
	rest     []byte // read from conn already
	route    Route
	endpoint string
	version  string
	id       uint64
}

// skip dials the cached endpoint; nil when the rule forbids it or nobody answers
// there.
func (d *dialing) skip() *Conn {
	if d.CachedEndpoint == "" || d.OwnVersion == "" || d.OwnVersion != d.Version {
		return nil
	}
	c, err := endpoint.DialNow(d.CachedEndpoint) // a full backlog is no answer either: the broker may know better
	if err != nil {
		return nil
	}
	return newConn(d, &opened{conn: c, route: HelloSkipped, endpoint: d.CachedEndpoint})
}

// run asks the broker until there is a verdict, in vain or not, or asking again
// does not help.
func (d *dialing) run(ctx context.Context, early []byte, deadline time.Time) (*opened, error) {
	for n := 1; ; n++ {
		var o *opened
		x, err := d.ask(ctx, early, deadline)
		if err == nil {
			o, err = x.conclude()
		}
		if err == nil {
			return o, nil
		}
		if n == attempts || !d.again(err) || ctx.Err() != nil || !time.Now().Before(deadline) {
			return nil, fmt.Errorf("dial %s@%s: %w", d.Service, d.Version, err)
		}
	}
}

// again reports whether asking again is safe and may help.
func (d *dialing) again(err error) bool {
	return errors.Is(err, errEnded) || errors.Is(err, ErrBackendUnreachable) || d.Idempotent && errors.Is(err, ErrOutcomeUnknown)
}

// connect dials path, with patience for a full backlog.
func connect(ctx context.Context, path string, deadline time.Time) (*unixconn.Conn, error) {
	c, err := endpoint.DialNow(path)
	if !errors.Is(err, syscall.EAGAIN) {
		return c, err
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if c, err = endpoint.Dial(ctx, path); err != nil && ctx.Err() != nil {
		err = verdict(ctx, err)
	}
	return c, err
}

// verdict turns a failed exchange into what the caller may conclude from it.
func verdict(ctx context.Context, err error) error {
	var refusal *hello.RefusedError
	switch {
	case errors.As(err, &refusal):
		return refused(refusal)
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case ctx.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w: %w", ErrNoAnswer, err)
	case errors.Is(err, net.ErrClosed):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("%w (%w)", errEnded, err)
	}
	return err
}

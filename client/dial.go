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

	"github.com/seed-7265657e/usher/internal/brokerpb"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
)

// attempts is how often Dial asks the broker when the connection ends before a
// verdict, or the backend it was sent to is gone. Nothing has been sent then, so
// asking again is always safe.
const attempts = 3

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
func Dial(ctx context.Context, opts Options) (*Conn, error) {
	if err := checkEnabled(); err != nil {
		return nil, err
	}
	if err := opts.complete(); err != nil {
		return nil, err
	}
	d := &dialing{Options: opts}
	request, err := d.request()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, opts.Timeout)
	defer cancel()
	if conn := d.skip(ctx); conn != nil {
		return conn, nil
	}
	for n := 1; ; n++ {
		conn, err := d.once(ctx, request)
		if err == nil {
			return conn, nil
		}
		if again := errors.Is(err, errEnded) || errors.Is(err, ErrBackendUnreachable); !again || n == attempts || ctx.Err() != nil {
			return nil, fmt.Errorf("dial %s@%s: %w", opts.Service, opts.Version, err)
		}
	}
}

// errEnded says that the broker's connection ended without a verdict.
var errEnded = fmt.Errorf("%w: it ended the connection without an answer", ErrBrokerUnreachable)

type dialing struct{ Options }

func (d *dialing) request() ([]byte, error) {
	capabilities := uint64(frame.CapHandlePassing | frame.CapUsher)
	if d.NoHandoff {
		capabilities = 0
	}
	f, err := hello.Request{
		Service:       d.Service,
		Version:       d.Version,
		ClientVersion: d.OwnVersion,
		Capabilities:  capabilities,
		PID:           uint32(os.Getpid()),
	}.Frame()
	if err != nil {
		return nil, err
	}
	return frame.Append(nil, f)
}

// skip dials the cached endpoint; nil when the rule forbids it or nobody answers
// there.
func (d *dialing) skip(ctx context.Context) *Conn {
	if d.CachedEndpoint == "" || d.OwnVersion == "" || d.OwnVersion != d.Version {
		return nil
	}
	c, err := endpoint.DialNow(ctx, d.CachedEndpoint) // a full backlog is no answer either: the broker may know better
	if err != nil {
		return nil
	}
	return &Conn{UnixConn: c, route: HelloSkipped, endpoint: d.CachedEndpoint}
}

// once asks the broker one time.
func (d *dialing) once(ctx context.Context, request []byte) (*Conn, error) {
	c, err := endpoint.Dial(ctx, d.Broker)
	if err != nil {
		return nil, undialled(ctx, err, fmt.Errorf("%w at %s: %w (start one with \"usher serve\")", ErrBrokerUnreachable, d.Broker, err))
	}
	release := bound(ctx, c)
	conn, err := d.hello(ctx, c, request)
	if !release() {
		err = errors.Join(ctx.Err(), err)
	}
	if err == nil && conn.route == HandedOver {
		return conn, nil
	}
	_ = c.Close()
	if err != nil {
		return nil, verdict(ctx, err)
	}
	return d.reconnect(ctx, conn)
}

// hello sends the request on c and reads the broker's verdict. The Conn it
// returns says which route to take; it holds c only when that was handed over.
func (d *dialing) hello(ctx context.Context, c *net.UnixConn, request []byte) (*Conn, error) {
	// A broker that refuses without reading may have closed its end already: its
	// answer is there all the same.
	_, writeErr := c.Write(request)
	f, _, err := frame.Read(c, frame.MaxHelloBody)
	if err != nil {
		return nil, errors.Join(err, writeErr)
	}
	granted, err := hello.ParseReply(f)
	if err != nil {
		return nil, err
	}
	conn := &Conn{route: Reconnected, endpoint: granted.BackendPipe, version: granted.DaemonVersion, id: granted.ConnectionId}
	if d.ready(ctx, c, granted) {
		conn.route, conn.UnixConn = HandedOver, c
	}
	return conn, nil
}

// ready waits for the end of an announced handoff. Any fault means reconnect
// (spec 02 §7): nothing has been sent on this connection.
func (d *dialing) ready(ctx context.Context, c *net.UnixConn, granted *brokerpb.Negotiated) bool {
	if d.NoHandoff || granted.ServerCapabilities&frame.CapHandlePassing == 0 || len(granted.HandlePassedToken) == 0 {
		return false
	}
	// Bounds this read alone. It may undo the deadline that an end of ctx has set
	// just before; a later one undoes it. The caller sees either.
	_ = c.SetReadDeadline(time.Now().Add(d.ReadyTimeout))
	if ctx.Err() != nil {
		return false
	}
	f, _, err := frame.Read(c, frame.MaxHelloBody)
	if err != nil || frame.ParseHandoffReady(f, granted.HandlePassedToken) != nil {
		return false
	}
	return c.SetDeadline(time.Time{}) == nil
}

func (d *dialing) reconnect(ctx context.Context, conn *Conn) (*Conn, error) {
	if conn.endpoint == "" {
		return nil, errors.New("the broker named no backend pipe")
	}
	c, err := endpoint.Dial(ctx, conn.endpoint)
	if err != nil {
		return nil, undialled(ctx, err, fmt.Errorf("%w at %s: %w", ErrBackendUnreachable, conn.endpoint, err))
	}
	conn.UnixConn = c
	return conn, nil
}

// undialled tells a dial that ctx ended (a full backlog takes that long) from one
// that failed by itself, which is unreachable.
func undialled(ctx context.Context, err, unreachable error) error {
	if ctx.Err() != nil {
		return verdict(ctx, err)
	}
	return unreachable
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
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("%w (%w)", errEnded, err)
	}
	return err
}

// bound makes every read and write on c end with ctx. release lifts the bound
// and reports whether it was lifted in time.
func bound(ctx context.Context, c *net.UnixConn) (release func() bool) {
	return context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
}
